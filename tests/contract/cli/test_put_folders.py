"""put of a folder: everything in it is sent as it was read, or named in an error."""

import os
import socket
from pathlib import Path

import pytest

from holdfast import HoldfastWarning
from holdfast.cli.statuses import Status
from tests.support.forwarder import Forwarder


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "made"
    (made / "sub").mkdir(parents=True)
    (made / "model.bin").write_bytes(os.urandom(1000))
    (made / "sub" / ".metadata").write_text("kept")
    return made


def kept(server, directory):
    answer = server.http.get("/v1/checkpoints/latest", params={"directory": directory})
    return {file["path"] for file in answer.json()["files"]} if answer.is_success else None


def test_a_link_to_a_folder_counts_as_the_folder(holdfast, directory, server, folder, tmp_path):
    (tmp_path / "tok" / "deep").mkdir(parents=True)
    (tmp_path / "tok" / "deep" / "vocab.txt").write_text("v")
    (folder / "tokenizer").symlink_to("../tok")
    (folder / "again").symlink_to("../tok/deep")
    assert holdfast("put", folder, directory).status == 0
    assert kept(server, directory) == {
        "model.bin", "sub/.metadata", "tokenizer/deep/vocab.txt", "again/vocab.txt"
    }  # fmt: skip


def make_socket(path):
    os.chdir(path.parent)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)


ODD = {
    "a link to nothing": (lambda path: path.symlink_to("nowhere"), "leads nowhere"),
    "a link to itself": (lambda path: path.symlink_to(path.name), "leads nowhere"),
    "a link to a folder above": (lambda path: path.symlink_to("../.."), "is a link to a folder that it is in"),
    "a link to its own folder": (lambda path: path.symlink_to("."), "is a link to a folder that it is in"),
    "a pipe": (os.mkfifo, "is neither a file nor a folder"),
    "a link to a device": (lambda path: path.symlink_to("/dev/null"), "is neither a file nor a folder"),
    "a socket": (make_socket, "is neither a file nor a folder"),
}


@pytest.mark.parametrize(("make", "why"), ODD.values(), ids=list(ODD))
def test_what_cannot_be_sent_is_named_and_nothing_is_sent(holdfast, directory, server, folder, make, why, monkeypatch):
    monkeypatch.chdir(folder)
    odd = folder / "sub" / "odd"
    make(odd)
    done = holdfast("put", folder, directory)
    assert done.status == Status.MISUSE
    assert f"{odd}" in done.complaints.replace("\n", "")
    assert why in done.complaints
    assert kept(server, directory) is None


@pytest.mark.parametrize(
    "name", ["two\nlines", "a|b", "cafe\u0301", b"\xff".decode(errors="surrogateescape"), " space"]
)
def test_a_name_that_the_server_does_not_take_is_named_before_anything_is_sent(
    holdfast, directory, server, folder, name
):
    (folder / "sub" / name).write_text("x")
    done = holdfast("put", folder, directory)
    assert done.status != 0
    assert ascii(f"sub/{name}") in done.complaints
    assert "cannot be a file of a checkpoint" in done.complaints
    assert kept(server, directory) is None


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
@pytest.mark.parametrize("what", ["sub", "model.bin"])
def test_what_cannot_be_read_is_named(holdfast, directory, server, folder, what):
    (folder / what).chmod(0)
    done = holdfast("put", folder, directory)
    (folder / what).chmod(0o700)
    assert done.status == Status.MISUSE
    assert f"{folder / what} cannot be read" in done.complaints
    assert kept(server, directory) is None


CHANGES = {
    "other bytes": (lambda folder: (folder / "model.bin").write_bytes(bytes(1000)), "model.bin"),
    "a longer file": (lambda folder: os.truncate(folder / "model.bin", 1001), "model.bin"),
    "a file that is gone": (lambda folder: (folder / "sub" / ".metadata").unlink(), "sub/.metadata"),
    "a file that is new": (lambda folder: (folder / "sub" / "new").touch(), "sub/new"),
    "another file in its place": (
        lambda folder: ((folder / "n").write_bytes(bytes(1000)), (folder / "n").replace(folder / "model.bin")),
        "model.bin",
    ),
}


@pytest.mark.parametrize("moment", [b"POST /v1/uploads ", b"PUT /v1/uploads/"], ids=["reserved", "sent"])
@pytest.mark.parametrize(("change", "what"), CHANGES.values(), ids=list(CHANGES))
def test_a_folder_that_another_process_changes_is_never_saved_as_a_mixture(
    holdfast, directory, server, folder, change, what, moment
):
    """Everything was read by then: either that is sent, or nothing is saved and the error names the file."""
    changed = []

    def watch(up, piece):
        if up and moment in piece and not changed:
            changed.append(change(Path(folder)))
        return False

    with Forwarder(server.url, watch=watch) as forwarder:
        done = holdfast("put", folder, directory, "--server", forwarder.url)
    assert changed
    assert done.status != 0
    assert str(folder / what) in done.complaints.replace("\n", "")
    assert kept(server, directory) is None


def test_a_put_that_replaces_what_another_writer_saved_says_so(holdfast, directory, server, folder):
    old = server.save(directory, b"of another job", name="step", writer="other@host")
    done = holdfast("put", folder / "model.bin", directory, "--name", "step", "--json")
    assert done.json["replaced"]["id"] == old["id"]
    assert f"{directory}/step replaced what other@host had saved there" in done.complaints.replace("\n", " ")
    assert holdfast("put", folder / "sub" / ".metadata", directory, "--name", "step").complaints == ""


def test_a_manager_is_warned_of_what_it_replaced(make_manager, server, directory):
    server.save(directory, b"of another job", name="checkpoint_epoch_0001.pt", writer="other@host")
    with pytest.warns(HoldfastWarning) as warned:
        make_manager().save({"a": 1}, epoch=1)
    assert any("checkpoint_epoch_0001.pt replaced what other@host had saved there" in str(w.message) for w in warned)
