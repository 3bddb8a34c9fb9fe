"""Remains: bytes that the catalog has forgotten, and that a kill or a power cut has left on the disk."""

import pytest

from tests.support.shared_uploads import contents, reserve


def stored(server, shared, path):
    return server.root / ".holdfast" / "incoming" / shared.id / "files" / "step-10" / path


def killed_amid(server, place, change):
    """Kill the server between the record of a change and the removal of the bytes, and start it again."""
    data = place.read_bytes()
    change()
    server.kill()
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(data)
    server.start()


@pytest.mark.parametrize("hashed", [True, False], ids=["hashed", "not hashed"])
@pytest.mark.parametrize(
    ("removed", "after"),
    [
        pytest.param("f", {"f": b""}, id="an empty file"),
        pytest.param("f", {"f": b"short"}, id="a shorter file"),
        pytest.param("f", {"f/below": b"short"}, id="a file that becomes a folder"),
        pytest.param("above/f", {"above": b"short"}, id="a folder that becomes a file"),
    ],
)
def test_the_remains_of_a_removed_file_are_gone(own_server, directory, removed, after, hashed):
    shared = reserve(own_server.http, directory)
    shared.put("w", {removed: b"A" * 100})
    killed_amid(own_server, stored(own_server, shared, removed), lambda: shared.remove("w", removed))
    assert shared.put("w", after, hashed=hashed) == sum(map(len, after.values()))
    assert shared.ready("w").status_code == 200
    committed = shared.commit()
    assert committed.status_code == 201, committed.text
    assert contents(own_server.http, committed.json()) == after


def test_the_remains_of_a_file_that_was_declared_again_are_cut_off(own_server, directory):
    """The new declaration came before the power cut, which brought back the former bytes."""
    shared = reserve(own_server.http, directory)
    shared.put("w", {"f": b"A" * 100, "empty": b"B" * 100})
    place = stored(own_server, shared, "f")
    empty = place.with_name("empty")

    def change():
        for path in ("f", "empty"):
            shared.remove("w", path)
        shared.declare("w", {"f": b"short", "empty": b""})

    killed_amid(own_server, place, change)
    empty.write_bytes(b"B" * 100)
    shared.put("w", {"f": b"short", "empty": b""})
    shared.ready("w")
    assert contents(own_server.http, shared.commit().json()) == {"f": b"short", "empty": b""}


def test_the_remains_of_an_earlier_attempt_are_gone(own_server, directory):
    """Attempt 1 makes a folder of a file of attempt 0; attempt 2 makes it a file again."""
    before = reserve(own_server.http, directory)
    before.put("w", {"f": b"A" * 100})
    second = reserve(own_server.http, directory, attempt=1)
    killed_amid(own_server, stored(own_server, before, "f"), lambda: second.declare("w", {"f/below": b"folder"}))
    assert second.put("w", {"f/below": b"folder"}) == 6
    third = reserve(own_server.http, directory, attempt=2)
    assert third.put("w", {"f": b"short"}) == 5
    third.ready("w")
    assert contents(own_server.http, third.commit().json()) == {"f": b"short"}
