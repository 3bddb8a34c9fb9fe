"""Chunk maps: the chunks that verify every byte of a checkpoint, and its declared tensors."""

import os

import pytest

from app.__main__ import main
from app.core import digests
from app.core.models import Chunk
from tests.data import exploits
from tests.support.live import LiveServer

MIB = 1024 * 1024


def begin(server, directory, contents, **more):
    """Commit a checkpoint through an upload; ``more`` has further members of each file by its path."""
    files = [{"path": path, "size_bytes": len(data), **more.get(path, {})} for path, data in contents.items()]
    upload = server.http.post("/v1/uploads", json={"directory": directory, "name": "x.pt", "files": files}).json()
    for wanted in upload["missing"]:
        data = contents[wanted["file"]][wanted["offset"] : wanted["offset"] + wanted["length"]]
        server.http.put(wanted["url"], content=data).raise_for_status()
    answer = server.http.post(f"/v1/uploads/{upload['id']}/commit")
    assert answer.status_code == 201, answer.text
    return answer.json()


def fetched(server, file):
    """Fetch a file by its ranges and verify every chunk."""
    data = b""
    for wanted in file["ranges"]:
        answer = server.http.request(wanted["method"], wanted["url"], headers=wanted["headers"])
        assert (answer.status_code, len(answer.content)) == (206, wanted["length"])
        data += answer.content
    for chunk in file["chunks"]:
        piece = data[chunk["offset"] : chunk["offset"] + chunk["length"]]
        assert digests.of_chunk(piece) == chunk["digest"]
    assert sum(chunk["length"] for chunk in file["chunks"]) == file["size_bytes"]
    return data


def test_every_byte_can_be_fetched_and_verified(server, directory):
    contents = {"large.bin": os.urandom(MIB) * 66, "sub/é.bin": b"small", ".metadata": b""}
    saved = begin(server, directory, contents)
    found = server.http.get(f"/v1/checkpoints/{saved['id']}/chunks").json()
    assert {file["path"]: fetched(server, file) for file in found["files"]} == contents
    assert [len(file["ranges"]) for file in found["files"]] == [0, 2, 1]


def test_digests_follow_from_the_chunks(server, directory):
    saved = begin(server, directory, {"a": os.urandom(9 * MIB), "b": b"b"})
    found = server.http.get(f"/v1/checkpoints/{saved['id']}/chunks").json()
    for file in found["files"]:
        chunks = [Chunk(chunk["length"], chunk["digest"]) for chunk in file["chunks"]]
        assert digests.of_file(chunks) == file["digest"]
    names = [(file["path"], file["digest"]) for file in found["files"]]
    assert digests.of_checkpoint(names) == found["digest"] == saved["digest"]


def test_ranges_name_the_content_that_they_are_of(server, directory):
    saved = server.save(directory, b"content", epoch=1)
    (file,) = server.http.get(f"/v1/checkpoints/{saved['id']}/chunks").json()["files"]
    (wanted,) = file["ranges"]
    assert wanted["headers"]["If-Match"] == f'"{file["digest"]}"'
    other = {**wanted["headers"], "If-Match": '"other"'}
    assert server.http.get(wanted["url"], headers=other).status_code == 412


def test_chunks_are_kept_as_they_were_declared(server, directory):
    pieces = [b"one", b"three", b"a"]
    declared = [{"length": len(piece), "digest": digests.of_chunk(piece)} for piece in pieces]
    saved = begin(server, directory, {"x.pt": b"".join(pieces)}, **{"x.pt": {"chunks": declared}})
    (file,) = server.http.get(f"/v1/checkpoints/{saved['id']}/chunks").json()["files"]
    assert [{key: chunk[key] for key in ("length", "digest")} for chunk in file["chunks"]] == declared


def test_tensors_are_given_back_as_they_were_declared(server, directory):
    tensors = [
        {"name": "model.weight", "dtype": "float32", "shape": [2, 3], "offset": 64, "size_bytes": 24},
        {"name": "scalar", "dtype": "bfloat16", "shape": [], "offset": None, "size_bytes": None},
    ]
    saved = begin(server, directory, {"a": b"a" * 100, "b": b"b"}, a={"tensors": tensors})
    found = server.http.get(f"/v1/checkpoints/{saved['id']}/tensors").json()
    assert found["files"] == [{"path": "a", "tensors": tensors}]


def test_a_checkpoint_without_declared_tensors_has_no_index(server, directory):
    saved = server.save(directory)
    answer = server.http.get(f"/v1/checkpoints/{saved['id']}/tensors")
    assert (answer.status_code, answer.json()["code"]) == (404, "no_tensor_index")


TENSOR = exploits.archive(exploits.tensor())
FOUND = {
    "name": "tensor",
    "dtype": "float32",
    "shape": [4],
    "offset": TENSOR.index(bytes(16)),
    "size_bytes": 16,
}


def tensors(server, saved):
    found = server.http.get(f"/v1/checkpoints/{saved['id']}/tensors").json()
    return {file["path"]: file["tensors"] for file in found["files"]} if "files" in found else found["code"]


@pytest.mark.parametrize("name", ["a.pt", "model"])
def test_the_tensors_of_a_torch_file_that_comes_in_one_request_are_found(server, directory, name):
    assert tensors(server, server.save(directory, TENSOR, name=name)) == {name: [FOUND]}


def test_the_tensors_of_files_for_which_none_were_declared_are_found(server, directory):
    other = {**FOUND, "name": "other"}
    contents = {"a.pt": TENSOR, "b.bin": TENSOR, "c.json": TENSOR, "d.pt": b"x" * 99, "e.pt": b""}
    saved = begin(server, directory, contents, **{"b.bin": {"tensors": [other]}})
    assert tensors(server, saved) == {"a.pt": [FOUND], "b.bin": [other]}


def test_what_is_found_stays_within_bounds(tmp_path):
    many = {f"{number:03}.pt": TENSOR for number in range(120)}
    with LiveServer(tmp_path / "root") as server:
        assert len(tensors(server, begin(server, "runs/a", many))) == 100
    with LiveServer(tmp_path / "root", max_tensors="3") as server:
        assert len(tensors(server, begin(server, "runs/b", many))) == 3


def test_what_is_found_is_found_again_after_a_reindex(tmp_path):
    with LiveServer(tmp_path / "root") as server:
        server.save("runs/a", TENSOR, name="a.pt")
    assert main(["reindex", "--root", str(tmp_path / "root")]) == 0
    with LiveServer(tmp_path / "root") as server:
        (saved,) = server.http.get("/v1/checkpoints", params={"directory": "runs/a"}).json()["checkpoints"]
        assert tensors(server, saved) == {"a.pt": [FOUND]}


@pytest.mark.parametrize(
    "lax", [{"shape": ["64"]}, {"shape": [64.0]}, {"offset": "64"}, {"size_bytes": 256.0}], ids=str
)
def test_tensors_with_lax_numbers_are_taken_as_plain_ones_are(server, directory, lax):
    plain = {"name": "a", "dtype": "float32", "shape": [64], "offset": 64, "size_bytes": 256}
    saved = begin(server, directory, {"a": b"a"}, a={"tensors": [plain, {**plain, **lax}]})
    found = server.http.get(f"/v1/checkpoints/{saved['id']}/tensors").json()
    assert found["files"] == [{"path": "a", "tensors": [plain, plain]}]


@pytest.mark.parametrize(
    "wrong",
    [{"shape": [True]}, {"shape": [-1]}, {"offset": -1}, {"size_bytes": 2**53}, {"name": "a" * 1001}, {"more": 1}],
    ids=str,
)
def test_a_tensor_that_cannot_be_is_refused_by_its_place(server, directory, wrong):
    plain = {"name": "a", "dtype": "float32", "shape": [64], "offset": 64, "size_bytes": 256}
    file = {"size_bytes": 1, "tensors": [plain, {**plain, **wrong}]}
    answer = server.http.post("/v1/uploads", json={"directory": directory, "name": "x.pt", "files": [file]})
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["at"].startswith("body.files.0.tensors.1."), error
