"""The state of a shared save is read from answers, also from those of newer servers."""

from holdfast._shared.status import SharedStatus, WriterState


def test_an_open_upload_names_its_writers():
    writer = {"writer": "a", "files": 1, "size_bytes": 9, "missing_bytes": None, "is_ready": False, "active_at": None}
    shared = {"attempt": 3, "writers": [{**writer, "newer": 1}], "missing_writers": ["a", "b"], "newer": 2}
    found = SharedStatus.from_json({"state": "open", "shared": shared})
    assert found == SharedStatus(False, 3, (WriterState("a", 1, 9, None, False, None),), ("a", "b"))


def test_a_committed_upload_has_none():
    assert SharedStatus.from_json({"state": "committed", "shared": None}) == SharedStatus(True)
    assert SharedStatus.from_json({"state": "committed"}) == SharedStatus(True)
