"""Bounds of responses: every list is bounded and continues on further pages."""

import asyncio
import inspect
import threading

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import BaseModel, field_serializer

from app.http.body.json_response import SerialisedRoute
from app.main import create_app
from app.settings import Settings
from holdfast import CheckpointManager
from holdfast._transfer.contents import contents_of

MANY_CHUNKS, MANY_TENSORS = 60_000, 25_000


def prune(server, **body):
    answer = server.http.post("/v1/prune", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def pages(ask):
    """Yield every page of a response."""
    found, token = [], {}
    while True:
        found.append(ask(**token))
        if found[-1]["next_page_token"] is None:
            return found
        token = {"page_token": found[-1]["next_page_token"]}


def listed(page):
    return [
        (each["directory"], found["checkpoint"]["name"]) for each in page["directories"] for found in each["verdicts"]
    ]


@pytest.fixture
def three(server, directory):
    """Three directories below one, with five checkpoints of three bytes each, of which the policy keeps two."""
    names = [f"{directory}/{letter}" for letter in "abc"]
    for name in names:
        for epoch in range(5):
            server.save(name, b"123", epoch=epoch)
        server.http.put(f"/v1/directories/{name}", json={"max_checkpoints": 2}).raise_for_status()
    return names


@pytest.mark.parametrize("verdicts", ["all", "going", "staying"])
def test_the_pages_of_a_dry_run_are_the_whole(server, directory, three, verdicts):
    asked = {"prefix": directory, "dry_run": True, "verdicts": verdicts}
    whole = prune(server, **asked)
    found = pages(lambda **token: prune(server, **asked, page_size=2, **token))
    assert [name for page in found for name in listed(page)] == listed(whole)
    assert max(len(listed(page)) for page in found) == 2
    for count, expected in (("stays", 6), ("goes", 9), ("freed_bytes", 27)):
        assert whole[count] == expected
        assert sum(page[count] for page in found) == expected
        assert sum(each[count] for page in found for each in page["directories"]) == expected
    assert whole["omitted"] == 0


def test_a_dry_run_may_give_counts_alone(server, directory, three):
    found = prune(server, prefix=directory, dry_run=True, verdicts="none")
    assert [(each["directory"], each["goes"], each["verdicts"]) for each in found["directories"]] == [
        (name, 3, []) for name in three
    ]
    by_two = pages(lambda **token: prune(server, prefix=directory, dry_run=True, verdicts="none", page_size=2, **token))
    assert [len(page["directories"]) for page in by_two] == [2, 1]


def test_another_policy_is_tried_page_by_page(server, three):
    asked = {"directory": three[0], "dry_run": True, "policy": {"max_checkpoints": 4}}
    found = pages(lambda **token: prune(server, **asked, page_size=2, **token))
    assert [[verdict["stays"] for each in page["directories"] for verdict in each["verdicts"]] for page in found] == [
        [True, True],
        [True, True],
        [False],
    ]


def test_a_real_run_removes_all_and_lists_what_fits(server, directory, three):
    done = prune(server, prefix=directory, page_size=4)
    assert (done["stays"], done["goes"], done["freed_bytes"], done["omitted"]) == (6, 9, 27, 11)
    assert (len(listed(done)), done["next_page_token"]) == (4, None)
    assert [len(server.names(name)) for name in three] == [2, 2, 2]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"dry_run": False, "page_token": "WzFd"}, id="a page of a real run"),
        pytest.param({"dry_run": True, "page_token": "WzFd"}, id="no token of ours"),
        pytest.param({"dry_run": True, "page_size": 0}, id="no room"),
        pytest.param({"dry_run": True, "page_size": 1001}, id="more than may be"),
    ],
)
def test_pages_that_cannot_be_are_refused(server, body):
    answer = server.http.post("/v1/prune", json={"prefix": "", **body})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


def test_a_token_of_another_dry_run_is_refused(server, directory, three):
    token = prune(server, prefix=directory, dry_run=True, page_size=1)["next_page_token"]
    answer = server.http.post("/v1/prune", json={"prefix": f"{directory}/a", "dry_run": True, "page_token": token})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


def test_clearing_names_the_first_thousand(server, directory):
    for epoch in range(3):
        server.save(directory, b"12", epoch=epoch, pinned=epoch == 1)
    cleared = server.http.delete(f"/v1/directories/{directory}").json()
    assert cleared == {
        "removed": ["checkpoint_epoch_0000.pt", "checkpoint_epoch_0002.pt"],
        "removed_count": 2,
        "pinned": ["checkpoint_epoch_0001.pt"],
        "pinned_count": 1,
        "freed_bytes": 4,
        "directory_removed": False,
    }


def commit(server, directory, data=b"1", **upload):
    """Save a checkpoint by an upload, with details that a save in a single request cannot carry."""
    file = {"path": "model.pt", "size_bytes": len(data), **upload.pop("file", {})}
    asked = {"directory": directory, "name": "model.pt", "files": [file], **upload}
    reserved = server.http.post("/v1/uploads", json=asked)
    assert reserved.status_code == 201, reserved.text
    for missing in reserved.json()["missing"]:
        part = data[missing["offset"] : missing["offset"] + missing["length"]]
        server.http.put(missing["url"], content=part).raise_for_status()
    answer = server.http.post(f"/v1/uploads/{reserved.json()['id']}/commit")
    assert answer.status_code == 201, answer.text
    return answer.json()


@pytest.fixture(scope="module")
def heavy(server):
    """Directories of checkpoints with the largest metadata allowed."""
    names = [f"heavy/{letter}" for letter in "abcde"]
    for name in names:
        for epoch in range(2):
            commit(server, name, metadata={"note": "x" * 900_000}, epoch=epoch)
    return names


def test_a_list_ends_before_it_is_too_large(server, heavy):
    for number in range(8):
        commit(server, "heavy/list", name=f"m{number}.pt", metadata={"note": "x" * 900_000})
    asked = {"directory": "heavy/list", "page_size": 1000}
    found = pages(lambda **token: server.http.get("/v1/checkpoints", params={**asked, **token}).json())
    assert [len(page["checkpoints"]) for page in found] == [4, 4]
    assert [one["name"] for page in found for one in page["checkpoints"]] == [f"m{number}.pt" for number in range(8)]


def test_a_list_of_directories_ends_before_it_is_too_large(server, heavy):
    asked = {"prefix": "heavy", "page_size": 1000}
    found = pages(lambda **token: server.http.get("/v1/directories", params={**asked, **token}).json())
    assert len(found) > 1
    assert [one["directory"] for page in found for one in page["directories"] if len(one["directory"]) == 7] == heavy


@pytest.fixture(scope="module")
def cut_small(server):
    """A checkpoint with very many chunks and tensors."""
    from app.core import digests

    data = bytes(range(250)) * (MANY_CHUNKS // 250)
    digest = [digests.of_chunk(bytes([byte])) for byte in range(250)]
    file = {
        "chunks": [{"length": 1, "digest": digest[byte]} for byte in data],
        "tensors": [
            {"name": f"t{n}", "dtype": "uint8", "shape": [1], "offset": n, "size_bytes": 1} for n in range(MANY_TENSORS)
        ],
    }
    return commit(server, "cut/small", data, file=file), data


def test_chunks_come_in_pages_that_the_client_puts_together(server, cut_small, tmp_path):
    saved, data = cut_small
    found = pages(lambda **token: server.http.get(f"/v1/checkpoints/{saved['id']}/chunks", params=token).json())
    counts = [sum(len(file["chunks"]) for file in page["files"]) for page in found]
    assert sum(counts) == MANY_CHUNKS
    assert max(counts) <= 50_000
    assert len(counts) == 2
    manager = CheckpointManager("cut/small", server=server.url)
    assert manager.download("model.pt", tmp_path / "model.pt").read_bytes() == data
    (file,) = contents_of(manager._remote.server, manager._remote.latest()).files
    assert len(file.chunks) == MANY_CHUNKS


def test_tensors_come_in_pages(server, cut_small):
    saved, _ = cut_small
    found = pages(lambda **token: server.http.get(f"/v1/checkpoints/{saved['id']}/tensors", params=token).json())
    names = [tensor["name"] for page in found for file in page["files"] for tensor in file["tensors"]]
    assert names == [f"t{number}" for number in range(MANY_TENSORS)]
    assert len(found) == 2


def test_the_tensors_of_a_comparison_come_in_pages(server, cut_small):
    saved, _ = cut_small
    path, asked = f"/v1/checkpoints/{saved['id']}/comparison", {"against": saved["id"]}
    found = pages(lambda **token: server.http.get(path, params={**asked, **token}).json())
    assert [len(page["tensors"]) for page in found] == [20_000, 5_000]
    assert [len(page["files"]) for page in found] == [1, 0]
    assert [page["counts"] for page in found] == [{"same": MANY_TENSORS}] * 2


def test_models_become_json_on_the_thread_that_made_them():
    threads = {}

    class Answer(BaseModel):
        value: int

        @field_serializer("value")
        def say(self, value: int) -> int:
            threads["serialised"] = threading.get_ident()
            return value

    def endpoint() -> Answer:
        threads["made"] = threading.get_ident()
        return Answer(value=1)

    app = FastAPI()
    app.router.routes.append(SerialisedRoute("/", endpoint))

    async def ask():
        threads["loop"] = threading.get_ident()
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as http:
            return await http.get("/")

    answer = asyncio.run(ask())
    assert (answer.json(), answer.headers["content-type"]) == ({"value": 1}, "application/json")
    assert threads["serialised"] == threads["made"] != threads["loop"]


def test_every_blocking_route_that_answers_with_a_model_serialises_off_the_event_loop(tmp_path):
    routes = list(all_routes(create_app(Settings(root=tmp_path / "root"))))
    answering = [
        route
        for route in routes
        if route.response_model is not None and not inspect.iscoroutinefunction(inspect.unwrap(route.endpoint))
    ]
    small = {"/info", "/health/live", "/health/ready", "/checkpoints/{checkpoint_id}/links", "/storage/series"}
    left = {route.path for route in answering if not isinstance(route, SerialisedRoute)}
    assert len(answering) > 15
    assert left <= small, left


def all_routes(routing):
    for route in routing.routes:
        if isinstance(route, APIRoute):
            yield route
        elif (inner := getattr(route, "original_router", None)) is not None:
            yield from all_routes(inner)


def test_a_save_that_lets_much_go_counts_all_of_it(server, directory):
    for epoch in range(3):
        server.save(directory, epoch=epoch)
    saved = server.save(directory, epoch=3, max_checkpoints=1)
    assert (len(saved["removed"]), saved["removed_count"]) == (3, 3)


def test_a_refusal_names_some_of_very_many_files(server, directory):
    files = [{"path": f"{number:03}.bin", "size_bytes": 0} for number in range(150)]
    upload = server.http.post("/v1/uploads", json={"directory": directory, "name": "many", "files": files}).json()
    server.http.post(f"/v1/uploads/{upload['id']}/commit").raise_for_status()
    answer = server.http.get(f"/v1/checkpoints/{upload['id']}/content")
    assert (answer.json()["code"], len(answer.json()["files"])) == ("several_files", 100)


@pytest.mark.parametrize("body", [{"k" * 400_000: 1}, {"mode": {"k" * 400_000: 1}}, {"k" * 1000: 1}])
def test_a_refusal_does_not_repeat_a_name_as_long_as_a_body(server, directory, body):
    answer = server.http.put(f"/v1/directories/{directory}", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert len(answer.content) < 2000
