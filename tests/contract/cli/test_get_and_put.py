"""holdfast get and put: whole files, verified, and transferred no more often than needed."""

import io
import os
import sys

import pytest
import torch
from safetensors.torch import save_file

from holdfast._torchfile.writer.layout import layout_of, named_tensors
from holdfast._transfer import upload
from holdfast._transfer.file_source import FileSource
from holdfast.cli.commands import get
from holdfast.cli.statuses import Status
from tests.data.states import assert_same
from tests.support.forwarder import Forwarder
from tests.support.tokens import mint

MIB = 1024 * 1024


@pytest.fixture
def folder(tmp_path):
    """A folder of a sharded save: several files, an empty one, one in a subfolder, and a link."""
    root = tmp_path / "step-500"
    (root / "sub").mkdir(parents=True)
    (root / "model.bin").write_bytes(os.urandom(9 * MIB + 17))
    (root / "empty").touch()
    (root / "sub" / "config.json").write_text("{}")
    (root / "link").symlink_to("sub/config.json")
    return root


def contents(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_a_file_there_and_back(holdfast, directory, tmp_path, server, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.pt").write_bytes(data := os.urandom(5 * MIB))
    done = holdfast(
        "put",
        "model.pt",
        directory,
        "--epoch",
        3,
        "--metric",
        0.5,
        "--meta",
        "lr=0.1",
        "--meta",
        "who=me",
        "--tag",
        "x",
    )
    assert (done.status, done.said) == (0, f"{directory}/model.pt\n")
    found = server.http.get("/v1/checkpoints/latest", params={"directory": directory}).json()
    assert (found["epoch"], found["metric"], found["tags"]) == (3, 0.5, ["x"])
    assert found["metadata"] == {"lr": 0.1, "who": "me"}
    (tmp_path / "model.pt").unlink()
    assert holdfast("get", f"{directory}/model.pt").said == "model.pt\n"
    assert (tmp_path / "model.pt").read_bytes() == data
    assert holdfast("get", directory, "latest", "-o", tmp_path / "deep" / "other.pt").status == 0
    assert (tmp_path / "deep" / "other.pt").read_bytes() == data
    assert holdfast("get", directory, "best", "--output", "-").raw == data
    document = holdfast("get", directory, "best", "-o", "third.pt", "--json").json
    assert (document["path"], document["size_bytes"]) == ("third.pt", 5 * MIB)


def test_a_folder_there_and_back(holdfast, directory, folder, tmp_path):
    assert holdfast("put", folder, directory, "--name", "step").said == f"{directory}/step\n"
    assert holdfast("get", f"{directory}/step", "-o", tmp_path).said == f"{tmp_path / 'step'}\n"
    assert contents(tmp_path / "step") == contents(folder)
    assert len(contents(folder)) == 4
    assert holdfast("get", directory, "step", "--file", "sub/config.json", "-o", "-").said == "{}"
    assert holdfast("get", directory, "step", "--file", "model.bin", "-o", tmp_path).status == 0
    assert (tmp_path / "model.bin").read_bytes() == (folder / "model.bin").read_bytes()
    several = holdfast("get", directory, "step", "-o", "-")
    assert (several.status, several.raw) == (Status.MISUSE, b"")
    assert "choose one with --file, of empty, link, model.bin, sub/config.json" in several.complaints
    assert holdfast("get", directory, "step", "--file", "none").status == Status.NOT_FOUND


def test_the_stream_is_more_than_one_window(holdfast, directory, server, monkeypatch):
    monkeypatch.setattr("holdfast._transfer.download.JOB_BYTES", 2 * MIB)
    data = os.urandom(13 * MIB + 5)
    server.save(directory, data, epoch=1)
    assert holdfast("get", directory, "latest", "-o", "-").raw == data


def test_what_is_no_file_is_not_put(holdfast, directory, server, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/null"):
        done = holdfast("put", path, directory)
        assert (done.status, done.raw) == (Status.MISUSE, b"")
        assert "is neither a file nor a folder" in done.complaints
    assert server.http.get(f"/v1/directories/{directory}").status_code == 404


def test_a_file_that_goes_while_it_is_sent_is_named(holdfast, directory, folder, server):
    def take_away(up, piece):
        if up and b"POST /v1/uploads" in piece:  # all was read, and nothing is sent yet
            (folder / "model.bin").unlink()

    with Forwarder(server.url, watch=take_away) as forwarder:
        done = holdfast("put", folder, directory, "--server", forwarder.url)
    assert (done.status, done.raw) == (Status.ALTERED, b"")
    assert f"{folder / 'model.bin'} can no longer be read: No such file or directory" in done.complaints


def test_who_may_only_write_can_put(holdfast, guarded, directory, tmp_path, monkeypatch):
    monkeypatch.setenv("HOLDFAST_TOKEN", mint(guarded.root, "write"))
    (tmp_path / "a.bin").write_bytes(b"bytes")
    put = ("put", tmp_path / "a.bin", directory, "--server", guarded.url)
    done = holdfast(*put)
    assert (done.status, done.said, done.complaints) == (0, f"{directory}/a.bin\n", "")
    document = holdfast(*put, "--json").json
    reader = {"Authorization": f"Bearer {mint(guarded.root, 'read')}"}
    url = f"/v1/checkpoints/{document['checkpoint']['id']}"
    assert document["checkpoint"] == guarded.http.get(url, headers=reader).json()


def put_bytes(holdfast, file, data, directory, *more):
    file.write_bytes(data)
    done = holdfast("put", file, directory, "--json", *more)
    assert done.status == 0, done.complaints
    return done.json["checkpoint"]


def test_each_put_is_a_save_of_its_own(holdfast, directory, tmp_path, server):
    file = tmp_path / "a.bin"
    for data in (b"one", b"two", b"one", b"two", b"two"):
        put_bytes(holdfast, file, data, directory)
        assert holdfast("get", directory, "latest", "-o", "-").raw == data
    sequences = [put_bytes(holdfast, file, b"two", directory)["sequence"] for _ in range(3)]
    assert len(set(sequences)) == 3
    assert holdfast("rm", "--yes", f"{directory}/a.bin").status == 0
    put_bytes(holdfast, file, b"two", directory)
    assert server.names(directory) == ["a.bin"]


def test_the_facts_and_the_order_are_those_of_the_last_put(holdfast, directory, tmp_path, server):
    first, other = tmp_path / "first.bin", tmp_path / "other.bin"
    for metric in (0.5, 0.4, 0.5):
        assert put_bytes(holdfast, first, b"same", directory, "--metric", metric)["metric"] == metric
    assert put_bytes(holdfast, first, b"same", directory, "--pin")["pinned"]
    assert holdfast("unpin", f"{directory}/first.bin").status == 0
    assert put_bytes(holdfast, first, b"same", directory, "--pin")["pinned"]
    put_bytes(holdfast, other, b"other", directory)
    put_bytes(holdfast, first, b"same", directory)
    latest = server.http.get("/v1/checkpoints/latest", params={"directory": directory}).json()
    assert latest["name"] == "first.bin"


def test_a_put_whose_answer_was_lost_is_committed_once(holdfast, directory, tmp_path, server):
    (tmp_path / "a.bin").write_bytes(b"bytes")
    lost = []

    def lose(up, piece):
        if up and b"/commit" in piece:
            lost.append("asked")
        elif not up and lost == ["asked"] and b"201 Created" in piece:
            lost.append("answered")
            return True
        return False

    with Forwarder(server.url, watch=lose) as forwarder:
        assert holdfast("put", tmp_path / "a.bin", directory, "--server", forwarder.url).status == 0
    found = server.http.get("/v1/checkpoints/latest", params={"directory": directory}).json()
    assert (found["sequence"], lost) == (1, ["asked", "answered", "asked"])


def test_a_link_is_called_as_it_is_called(holdfast, directory, tmp_path, server, monkeypatch):
    (tmp_path / "step=3.ckpt").write_bytes(b"bytes")
    (tmp_path / "last.ckpt").symlink_to("step=3.ckpt")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_bytes(b"bytes")
    (tmp_path / "newest").symlink_to("folder")
    for path, called in (("last.ckpt", "last.ckpt"), ("newest", "newest"), ("folder/../last.ckpt", "last.ckpt")):
        assert holdfast("put", tmp_path / path, directory).said == f"{directory}/{called}\n"
    monkeypatch.chdir(tmp_path / "folder")
    assert holdfast("put", ".", directory).said == f"{directory}/folder\n"
    assert contents_of_link(holdfast, directory) == b"bytes"


def contents_of_link(holdfast, directory):
    return holdfast("get", f"{directory}/last.ckpt", "-o", "-").raw


def test_an_interrupted_put_goes_on_where_it_was(holdfast, directory, folder, server, monkeypatch):
    with Forwarder(server.url) as forwarder:
        put = ("put", folder, directory, "--server", forwarder.url)
        monkeypatch.setattr(upload._Sending, "_commit", interrupt)
        assert holdfast(*put).status == Status.INTERRUPTED
        assert forwarder.up_bytes > 9 * MIB
        monkeypatch.undo()
        forwarder.reset()
        assert holdfast(*put).status == 0
        assert forwarder.up_bytes < MIB
    assert server.names(directory) == ["step-500"]


def interrupt(*_):
    raise KeyboardInterrupt


def test_a_file_that_changes_while_it_is_sent_is_not_saved(holdfast, directory, tmp_path, server, monkeypatch):
    file = tmp_path / "a.bin"
    file.write_bytes(b"before")
    chunks = FileSource.chunks

    def then_changed(source, *moved):
        found = chunks(source, *moved)
        file.write_bytes(b"behind")
        return found

    monkeypatch.setattr(FileSource, "chunks", then_changed)
    done = holdfast("put", file, directory)
    assert (done.status, "changed while it was being saved" in done.complaints) == (Status.ALTERED, True)
    assert holdfast("ls", directory).rows == []


@pytest.mark.parametrize(
    ("more", "status"),
    [
        pytest.param(["--meta", "nothing"], Status.MISUSE, id="metadata without a value"),
        pytest.param(["--metric", "1e400"], Status.MISUSE, id="a metric beyond a float"),
        pytest.param(["--metric", "low"], Status.MISUSE, id="a metric that is no number"),
        pytest.param(["--meta-json", "a"], Status.MISUSE, id="JSON without a value"),
        pytest.param(["--meta-json", "a=text"], Status.MISUSE, id="JSON that is none"),
        pytest.param(["--meta-json", "a=1e400"], Status.MISUSE, id="JSON beyond a float"),
        pytest.param(["--meta-json", "a=" + "[" * 9999], Status.MISUSE, id="JSON without end"),
        pytest.param(["--meta-json", "a=" + "[" * 30 + "]" * 30], Status.MISUSE, id="deep metadata"),
        pytest.param(["--meta", "a=\udcff"], Status.MISUSE, id="metadata that is no text"),
        pytest.param(["--only-if-improved"], Status.MISUSE, id="improved without a metric"),
        pytest.param(["--name", "a/b"], Status.MISUSE, id="a name that is none"),
        pytest.param(["--mode", "max"], Status.NO, id="the other mode"),
        pytest.param(["--metric", "0.7", "--only-if-improved"], Status.NO, id="no improvement"),
    ],
)
def test_what_is_not_saved(holdfast, directory, tmp_path, server, more, status):
    server.save(directory, epoch=1, metric=0.5, mode="min")
    (tmp_path / "a.bin").write_bytes(b"bytes")
    done = holdfast("put", tmp_path / "a.bin", directory, *more)
    assert (done.status, done.raw) == (status, b"")
    assert server.names(directory) == ["checkpoint_epoch_0001.pt"]


def test_what_cannot_be_put(holdfast, directory, tmp_path):
    assert holdfast("put", tmp_path / "none", directory).status == Status.MISUSE
    (tmp_path / "hollow" / "below").mkdir(parents=True)
    done = holdfast("put", tmp_path / "hollow", directory)
    assert (done.status, "holds no file" in done.complaints) == (Status.MISUSE, True)
    os.mkfifo(tmp_path / "hollow" / "pipe")
    done = holdfast("put", tmp_path / "hollow", directory)
    assert (done.status, "neither a file nor a folder" in done.complaints) == (Status.MISUSE, True)


def test_a_directory_is_no_checkpoint(holdfast, directory, server):
    server.save(directory, epoch=1)
    done = holdfast("get", directory)
    assert (done.status, f"'holdfast get {directory} best'" in done.complaints) == (Status.MISUSE, True)


def test_altered_bytes_are_not_handed_out(holdfast, own_server, tmp_path):
    own_server.save("runs/a", b"x" * MIB, epoch=1)
    (own_server.root / "runs/a/checkpoint_epoch_0001.pt").write_bytes(b"y" * MIB)
    for output in ("-", tmp_path / "out.pt"):
        done = holdfast("get", "runs/a/latest", "-o", output, "--server", own_server.url)
        assert (done.status, done.raw) == (Status.ALTERED, b"")
    assert not (tmp_path / "out.pt").exists()


def state():
    torch.manual_seed(0)
    layers = {f"layer{place}.{part}": torch.randn(64, 64) for place in range(3) for part in ("weight", "bias")}
    layers["layer1.turned"] = torch.randn(8, 16).t()
    return {"model": layers, "optimizer": torch.randn(2 * MIB), "epoch": 7}


def test_parts_of_a_state(holdfast, directory, make_manager, tmp_path, server):
    saved = state()
    make_manager().save(saved, epoch=7)
    with Forwarder(server.url) as forwarder:
        part = ("get", directory, "latest", "-o", tmp_path / "part.pt", "--server", forwarder.url)
        assert holdfast(*part, "--only", "model", "--only", "epoch").said == f"{tmp_path / 'part.pt'}\n"
        assert_same(torch.load(tmp_path / "part.pt"), {"model": saved["model"], "epoch": 7})
        assert holdfast(*part, "--tensor", "model.layer1.*").status == 0
        assert forwarder.down_bytes < 2 * MIB
    found = torch.load(tmp_path / "part.pt")
    wanted = {f"model.{name}": tensor for name, tensor in saved["model"].items() if name.startswith("layer1.")}
    assert len(wanted) == 3
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())
    assert (tmp_path / "part.pt").stat().st_size < 100_000
    raw = holdfast("get", directory, "latest", "--only", "epoch", "-o", "-").raw
    assert torch.load(io.BytesIO(raw)) == {"epoch": 7}


@pytest.mark.parametrize(
    ("more", "status"),
    [
        pytest.param(["--only", "none", "-o", "x.pt"], Status.NOT_FOUND, id="no such key"),
        pytest.param(["--tensor", "none.*", "-o", "x.pt"], Status.NOT_FOUND, id="no such tensor"),
        pytest.param(["--only", "epoch"], Status.MISUSE, id="a part without a name of its own"),
        pytest.param(["--only", "epoch", "--tensor", "x", "-o", "x.pt"], Status.MISUSE, id="both"),
        pytest.param(["-o", "-", "--json"], Status.MISUSE, id="bytes and JSON"),
    ],
)
def test_parts_that_there_are_not(holdfast, directory, make_manager, tmp_path, monkeypatch, more, status):
    monkeypatch.chdir(tmp_path)
    make_manager().save({"epoch": 1, "w": torch.ones(2)}, epoch=1)
    done = holdfast("get", directory, "latest", *more)
    assert (done.status, done.raw, list(tmp_path.iterdir())) == (status, b"", [])


def test_parts_need_torch(holdfast, directory, server, monkeypatch):
    server.save(directory, epoch=1)
    monkeypatch.setattr(get, "find_spec", lambda _: None)
    done = holdfast("get", directory, "latest", "--only", "x", "-o", "x.pt")
    assert (done.status, 'pip install "torch>=2.7"' in done.complaints) == (Status.MISUSE, True)


def test_the_names_of_tensors_are_those_of_the_index():
    saved = state()
    assert [name for name, _ in named_tensors(saved)] == [entry["name"] for entry in layout_of(saved).tensors]
    assert "torch" in sys.modules


def test_an_ordinary_file_that_is_put_has_its_tensors(holdfast, directory, tmp_path, server):
    torch.save(before := state(), tmp_path / "model.pt")
    assert holdfast("put", tmp_path / "model.pt", directory).status == 0
    names = [row[0] for row in holdfast("tensors", f"{directory}/model.pt").rows]
    assert names == [f"model.{name}" for name in before["model"]] + ["optimizer"]
    part = tmp_path / "part.pt"
    assert holdfast("get", f"{directory}/model.pt", "--tensor", "model.layer1.*", "-o", part).status == 0
    assert_same(
        torch.load(part), {f"model.{name}": found for name, found in before["model"].items() if "layer1" in name}
    )
    assert holdfast("get", f"{directory}/model.pt", "--only", "optimizer", "-o", part).status == 0
    assert_same(torch.load(part), {"optimizer": before["optimizer"]})
    torch.save({**before, "optimizer": before["optimizer"] + 1}, tmp_path / "model.pt")
    assert holdfast("put", tmp_path / "model.pt", directory, "--name", "other.pt").status == 0
    rows = holdfast("diff", f"{directory}/model.pt", f"{directory}/other.pt").rows
    assert [row[2] for row in rows if row[:2] == ["changed", "tensor"]] == ["optimizer"]


def test_a_folder_that_is_put_has_the_tensors_of_its_files(holdfast, directory, tmp_path):
    (tmp_path / "folder").mkdir()
    for place in range(2):
        save_file({f"w{place}": torch.ones(3)}, tmp_path / "folder" / f"model-{place}.safetensors")
    (tmp_path / "folder" / "config.json").write_text("{}")
    assert holdfast("put", tmp_path / "folder", directory).status == 0
    found = holdfast("tensors", f"{directory}/folder", "--json").json["tensors"]
    assert [(each["file"], each["name"]) for each in found] == [
        ("model-0.safetensors", "w0"),
        ("model-1.safetensors", "w1"),
    ]


def test_an_index_that_the_server_does_not_take_costs_no_put(holdfast, make_server, tmp_path):
    few = make_server(max_tensors="2")
    torch.save(state(), tmp_path / "model.pt")
    assert holdfast("put", tmp_path / "model.pt", "runs/a", "--server", few.url).status == 0
    assert few.names("runs/a") == ["model.pt"]


def test_metadata_on_the_command_line(holdfast, directory, tmp_path, server):
    (tmp_path / "a.bin").write_bytes(b"bytes")
    more = ["--meta", "sha=123e456", "--meta", "lr=1e-3", "--meta", "seed=18446744073709551615", "--meta", "on=true"]
    more += ["--meta-json", "n=1e5", "--meta-json", 'list=[1, "a"]']
    assert holdfast("put", tmp_path / "a.bin", directory, *more).status == 0
    found = server.http.get("/v1/checkpoints/latest", params={"directory": directory}).json()["metadata"]
    assert found == {"sha": "123e456", "lr": 0.001, "seed": 2**64 - 1, "on": True, "n": 100000.0, "list": [1, "a"]}
    assert "18446744073709551615" in holdfast("show", f"{directory}/a.bin").said


def test_tensors_of_a_flat_state(holdfast, directory, tmp_path):
    flat = {"model.a.weight": torch.ones(3), "model.b": torch.zeros(2), "head": torch.ones(1)}
    torch.save(flat, tmp_path / "flat.pt")
    save_file(flat, tmp_path / "flat.safetensors")
    part = tmp_path / "part.pt"
    for name in ("flat.pt", "flat.safetensors"):
        assert holdfast("put", tmp_path / name, directory).status == 0
        done = holdfast("get", f"{directory}/{name}", "--tensor", "model.*", "-o", part)
        assert done.status == 0, done.complaints
        assert_same(torch.load(part), {key: flat[key] for key in ("model.a.weight", "model.b")})
        assert holdfast("get", f"{directory}/{name}", "--only", "head", "-o", part).status == 0
        assert_same(torch.load(part), {"head": flat["head"]})


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--metric", "abc"], "--metric is 'abc', which is no number"),
        (["--metric", "1_0"], "--metric is '1_0', which is no number"),
        (["--metric", "1e400"], "--metric is 1e400, which is beyond a float"),
        (["--kind", "foo"], "--kind is 'foo': it must be regular or best"),
        (["--mode", "foo"], "--mode is 'foo': it must be min or max"),
        (["--meta", "a=1", "--meta", "a=2"], "the metadata 'a' is given twice"),
        (["--meta", "a=1", "--meta-json", "a=2"], "the metadata 'a' is given twice"),
        (["--epoch", "x"], "Invalid value for '--epoch': it must be an integer. See 'holdfast put --help'."),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, list) else None,
)
def test_what_makes_no_sense_is_refused_in_words_of_the_command(holdfast, directory, tmp_path, options, complaint):
    (tmp_path / "a.pt").write_bytes(b"bytes")
    done = holdfast("put", tmp_path / "a.pt", directory, *options)
    assert (done.status, complaint in done.complaints) == (Status.MISUSE, True), done.complaints


def test_an_empty_file_is_no_checkpoint(holdfast, server, directory, tmp_path):
    (tmp_path / "a.pt").touch()
    done = holdfast("put", tmp_path / "a.pt", directory)
    assert (done.status, "is empty" in done.complaints) == (Status.MISUSE, True)
    assert server.http.get("/v1/checkpoints", params={"directory": directory}).status_code == 404
