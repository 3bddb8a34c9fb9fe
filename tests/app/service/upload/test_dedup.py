"""Deduplicated saves: the server requests only chunks that it lacks, and publishes exactly the declared content."""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.data.delta_states import PIECE_BYTES, Uploader, asked, declared, pieces, refusal
from tests.support.live import eventually

SAVE_ID = "save-0001"


@pytest.fixture
def uploader(server, directory):
    return Uploader(server, directory)


@pytest.fixture
def own(own_server):
    """Make an uploader to a server that the test may kill."""
    return Uploader(own_server, "runs/a")


def inode(path):
    return path.stat().st_ino


def replaced(state, places):
    """Make a state with fresh pieces at some places."""
    fresh = iter(pieces(len(places)))
    return [next(fresh) if place in places else piece for place, piece in enumerate(state)]


# requested ranges


def test_a_mostly_unchanged_save_requests_only_the_changed_ranges(uploader):
    first = pieces(20)
    uploader.save(first, "1.pt")
    second = replaced(first, [3, 12])
    upload = uploader.begin(declared(second), name="2.pt")
    assert asked(upload) == [("2.pt", 3 * PIECE_BYTES, PIECE_BYTES), ("2.pt", 12 * PIECE_BYTES, PIECE_BYTES)]
    uploader.send(upload, state=second)
    uploader.committed(upload, second)
    assert uploader.path("1.pt").read_bytes() == b"".join(first)


A, B, C, D = pieces(4)
SHORT, LONG = pieces(1, 100) + pieces(1, 10_000)


@pytest.mark.parametrize(
    ("held", "state", "missing"),
    [
        pytest.param([[A, B, C]], [C, A, B], [], id="moved"),
        pytest.param([[A, B, C]], [SHORT, A, B, C], [(0, 100)], id="moved by an odd number of bytes"),
        pytest.param([[SHORT, A, LONG]], [LONG, SHORT, A], [], id="of all lengths, moved"),
        pytest.param([[A, B]], [A, B, A, A, B, B], [], id="several times in one file"),
        pytest.param([[A, A, B, A]], [B, A, A], [], id="several times in the one held"),
        pytest.param([[A], [B], [C]], [A, B, C], [], id="from several checkpoints"),
        pytest.param([[A, B], [B, C]], [A, B, C, D], [(3 * PIECE_BYTES, PIECE_BYTES)], id="held twice"),
        pytest.param([[A, B]], [C, C], [(0, 2 * PIECE_BYTES)], id="nothing held"),
        pytest.param([[A, B]], [A], [], id="shorter"),
        pytest.param([[A, B]], [], [], id="empty"),
        pytest.param([[]], [A], [(0, PIECE_BYTES)], id="an empty one held"),
    ],
)
def test_chunks_are_found_at_any_offset(uploader, held, state, missing):
    for number, other in enumerate(held):
        uploader.save(other, f"{number}.pt")
    upload = uploader.begin(declared(state), name="new.pt")
    assert asked(upload) == [("new.pt", offset, length) for offset, length in missing]
    uploader.send(upload, state=state)
    uploader.committed(upload, state)
    for number, other in enumerate(held):
        assert uploader.path(f"{number}.pt").read_bytes() == b"".join(other)


def test_chunks_are_shared_between_the_files_of_a_folder(uploader):
    one, two, both, new = pieces(3), pieces(3), pieces(2), pieces(1)
    before = {"model": one + both, "sub/state": two}
    upload = uploader.begin(*(declared(state, path=path) for path, state in before.items()), name="1")
    uploader.send(upload, **before)
    assert uploader.commit(upload).status_code == 201
    after = {"model": two + new, "other": both + one, "sub/state": two}
    upload = uploader.begin(*(declared(state, path=path) for path, state in after.items()), name="2")
    assert asked(upload) == [("model", 3 * PIECE_BYTES, PIECE_BYTES)]
    uploader.send(upload, **after)
    assert uploader.commit(upload).status_code == 201
    for path, state in after.items():
        assert (uploader.path("2") / path).read_bytes() == b"".join(state)


def test_the_same_bytes_in_other_chunks_are_requested(uploader):
    state = pieces(2)
    uploader.save(state)
    whole = b"".join(state)
    upload = uploader.begin(declared([whole[:5000], whole[5000:]]), name="2.pt")
    assert asked(upload) == [("2.pt", 0, 2 * PIECE_BYTES)]


def test_a_checkpoint_saved_without_chunks_is_a_source_in_the_servers_chunks(uploader):
    state = [os.urandom(300_000)]
    uploader.server.save(uploader.directory, state[0], name="1.pt")
    upload = uploader.begin(declared(state), name="2.pt")
    assert asked(upload) == []
    uploader.committed(upload, state)


def test_only_the_newest_32_checkpoints_are_sources(uploader):
    first, second = pieces(1), pieces(1)
    uploader.save(first, "old.pt", epoch=0)
    uploader.save(second, "older than 31 others.pt", epoch=1)
    for number in range(31):
        uploader.server.save(uploader.directory, b"other", name=f"{number}.pt", epoch=2 + number)
    assert asked(uploader.begin(declared(second), name="new.pt")) == []
    assert len(asked(uploader.begin(declared(first), name="newer.pt"))) == 1


# the same content again


def test_the_same_content_under_another_name_is_a_file_of_its_own(uploader):
    state = pieces(5)
    uploader.save(state, "1.pt")
    upload = uploader.begin(declared(state), name="2.pt")
    assert asked(upload) == []
    uploader.committed(upload, state)
    assert inode(uploader.path("1.pt")) != inode(uploader.path("2.pt"))


def test_the_same_content_under_the_same_name_is_not_copied(uploader):
    state = pieces(5)
    first = uploader.save(state)
    file = inode(uploader.path("x.pt"))
    upload = uploader.begin(declared(state), epoch=7)
    assert asked(upload) == asked(uploader.get(upload)) == []
    assert not uploader.incoming(upload).exists()
    answer = uploader.commit(upload).json()
    assert (answer["id"], answer["epoch"]) == (first["id"], 7)
    assert answer["sequence"] > first["sequence"]
    assert inode(uploader.path("x.pt")) == file
    assert upload["id"] not in uploader.server.incoming()


def remove(uploader):
    standing = uploader.server.http.get("/v1/checkpoints/latest", params={"directory": uploader.directory}).json()
    uploader.http.delete(f"/v1/checkpoints/{standing['id']}").raise_for_status()
    uploader.server.wait_until_freed()


def alter(uploader):
    path = uploader.path("x.pt")
    path.write_bytes(path.read_bytes()[::-1])


def take_away(uploader):
    uploader.path("x.pt").unlink()


GONE = [remove, alter, take_away]


@pytest.mark.parametrize("gone", GONE)
def test_if_the_same_content_is_not_live_at_commit_it_is_requested(uploader, gone):
    state = pieces(5)
    uploader.save(state)
    upload = uploader.begin(declared(state))
    assert asked(upload) == []
    gone(uploader)
    refused = uploader.commit(upload)
    assert refusal(refused) == (409, "ranges_missing")
    assert refused.json()["missing"] == [{"file": "x.pt", "offset": 0, "length": 5 * PIECE_BYTES}]
    again = uploader.get(upload)
    assert asked(again) == [("x.pt", 0, 5 * PIECE_BYTES)]
    uploader.send(again, state=state)
    uploader.committed(upload, state)


@pytest.mark.parametrize("gone", GONE)
def test_if_the_same_content_is_not_live_at_commit_it_is_copied_from_elsewhere(uploader, gone):
    state = pieces(5)
    uploader.save(state, "elsewhere.pt")
    uploader.save(state)
    upload = uploader.begin(declared(state))
    gone(uploader)
    uploader.committed(upload, state)


def test_deferred_ranges_may_be_sent_before_they_are_requested(uploader):
    state = pieces(3)
    uploader.save(state)
    upload = uploader.begin(declared(state))
    assert uploader.put(upload, state[1], PIECE_BYTES).status_code == 200
    remove(uploader)
    refused = uploader.commit(upload).json()
    assert [(wanted["offset"], wanted["length"]) for wanted in refused["missing"]] == [
        (0, PIECE_BYTES),
        (2 * PIECE_BYTES, PIECE_BYTES),
    ]
    uploader.send(uploader.get(upload), state=state)
    uploader.committed(upload, state)


def test_a_commit_that_declares_other_digests_than_the_same_content_is_refused(uploader):
    state = pieces(2)
    uploader.save(state)
    upload = uploader.begin(declared(state))
    assert refusal(uploader.commit(upload, declared(pieces(2)))) == (422, "digest_mismatch")
    assert refusal(uploader.commit(upload, declared(state, path="other"))) == (404, "file_not_found")
    assert uploader.commit(upload, declared(state)).status_code == 201


# sources


def test_a_source_that_was_altered_in_place_is_not_used(uploader):
    state, changed = pieces(3), pieces(1)
    uploader.save(state, "1.pt")
    with uploader.path("1.pt").open("r+b") as file:
        file.seek(PIECE_BYTES)
        file.write(changed[0])
    upload = uploader.begin(declared(state), name="2.pt")
    assert asked(upload) == [("2.pt", 0, 3 * PIECE_BYTES)]
    uploader.send(upload, state=state)
    uploader.committed(upload, state)


def test_bytes_that_were_altered_under_the_same_time_are_requested(uploader):
    state, changed = pieces(3), pieces(1)
    uploader.save(state, "1.pt")
    before = uploader.path("1.pt").stat()
    with uploader.path("1.pt").open("r+b") as file:
        file.seek(PIECE_BYTES)
        file.write(changed[0])
    os.utime(uploader.path("1.pt"), ns=(before.st_atime_ns, before.st_mtime_ns))
    upload = uploader.begin(declared(state), name="2.pt")
    refused = uploader.commit(upload)
    assert refusal(refused) == (409, "ranges_missing")
    assert any(m["offset"] <= PIECE_BYTES < m["offset"] + m["length"] for m in refused.json()["missing"])
    uploader.send(uploader.get(upload), state=state)
    uploader.committed(upload, state)


def test_one_altered_file_of_a_folder_does_not_exclude_the_others(uploader):
    files = {path: pieces(2) for path in ("a", "b", "c")}
    upload = uploader.begin(*(declared(state, path=path) for path, state in files.items()), name="1")
    uploader.send(upload, **files)
    assert uploader.commit(upload).status_code == 201
    (uploader.path("1") / "b").write_bytes(b"altered")
    (uploader.path("1") / "c").unlink()
    upload = uploader.begin(*(declared(state, path=path) for path, state in files.items()), name="2")
    assert asked(upload) == [("b", 0, 2 * PIECE_BYTES), ("c", 0, 2 * PIECE_BYTES)]
    uploader.send(upload, **files)
    assert uploader.commit(upload).status_code == 201
    for path, state in files.items():
        assert (uploader.path("2") / path).read_bytes() == b"".join(state)


def test_a_source_that_is_touched_but_the_same_is_used(uploader):
    state = pieces(2)
    uploader.save(state, "1.pt")
    os.utime(uploader.path("1.pt"))
    upload = uploader.begin(declared(state), name="2.pt")
    assert asked(upload) == []
    uploader.committed(upload, state)


# the base


def test_a_base_of_another_directory_is_used(server, directory, uploader):
    state = pieces(4)
    base = Uploader(server, f"{directory}/other").save(state)
    new = replaced(state, [2])
    assert len(asked(uploader.begin(declared(new), name="without.pt"))) == 1
    upload = uploader.begin(declared(new), base=base["id"])
    assert asked(upload) == [("x.pt", 2 * PIECE_BYTES, PIECE_BYTES)]
    uploader.send(upload, state=new)
    uploader.committed(upload, new)


@pytest.mark.parametrize("base", ["unknown", "removed", "an upload", "held anyway"])
def test_a_base_without_bytes_does_no_harm(uploader, base):
    state = pieces(2)
    other = uploader.save(pieces(1), "other.pt")
    if base == "removed":
        uploader.http.delete(f"/v1/checkpoints/{other['id']}").raise_for_status()
    if base == "an upload":
        other = uploader.begin(declared(state), name="upload.pt")
    upload = uploader.begin(declared(state), base="0" * 32 if base == "unknown" else other["id"])
    assert asked(upload) == [("x.pt", 0, 2 * PIECE_BYTES)]
    uploader.send(upload, state=state)
    uploader.committed(upload, state)


@pytest.mark.parametrize("base", ["", "../other", "a" * 65, "ü", 5, ["a"], {}])
def test_a_base_that_is_no_id_is_refused(uploader, base):
    assert refusal(uploader.reserve(declared(pieces(1)), base=base)) == (422, "invalid_request")


# digests that are declared late


def test_digests_may_come_with_the_commit(uploader):
    state = [*pieces(3), *pieces(1, 100)]
    upload = uploader.begin(declared(state, hashed=False))
    assert asked(upload) == [("x.pt", 0, sum(map(len, state)))]
    uploader.put(upload, state[1], PIECE_BYTES).raise_for_status()
    assert asked(uploader.get(upload)) == [("x.pt", 0, PIECE_BYTES), ("x.pt", 2 * PIECE_BYTES, PIECE_BYTES + 100)]
    uploader.send(uploader.get(upload), state=state)
    answer = uploader.commit(upload, declared(state))
    assert answer.status_code == 201
    assert uploader.path("x.pt").read_bytes() == b"".join(state)
    found = uploader.http.get(f"/v1/checkpoints/{upload['id']}/chunks").json()
    assert [chunk["digest"] for chunk in found["files"][0]["chunks"]] == [
        chunk["digest"] for chunk in declared(state)["chunks"]
    ]


def test_wrong_digests_with_the_commit_are_refused(uploader):
    state = pieces(3)
    upload = uploader.begin(declared(state, hashed=False))
    uploader.send(upload, state=state)
    assert refusal(uploader.commit(upload, declared(replaced(state, [1])))) == (422, "digest_mismatch")
    assert refusal(uploader.commit(upload, declared(state[:2]))) == (422, "wrong_length")
    assert refusal(uploader.commit(upload, declared(state, hashed=False))) == (422, "invalid_request")
    assert uploader.commit(upload, declared(state)).status_code == 201


def test_digests_are_declared_for_all_chunks_or_none(uploader):
    file = declared(pieces(2))
    del file["chunks"][1]["digest"]
    assert refusal(uploader.reserve(file)) == (422, "invalid_request")


def test_a_range_that_is_sent_again_with_other_bytes_is_what_came_last(uploader):
    old, new = pieces(2), pieces(2)
    upload = uploader.begin(declared(old, hashed=False))
    uploader.put(upload, b"".join(old)).raise_for_status()
    uploader.put(upload, new[0]).raise_for_status()
    assert refusal(uploader.commit(upload, declared(old))) == (422, "digest_mismatch")
    state = [new[0], old[1]]
    assert uploader.commit(upload, declared(state)).status_code == 201
    assert uploader.path("x.pt").read_bytes() == b"".join(state)


def test_digests_declared_later_exclude_bytes_that_have_arrived(uploader):
    state = pieces(4)
    upload = uploader.begin(declared(state, hashed=False), save_id=SAVE_ID)
    uploader.put(upload, state[1], PIECE_BYTES).raise_for_status()
    again = uploader.reserve(declared(state), save_id=SAVE_ID)
    assert (again.status_code, again.json()["id"]) == (200, upload["id"])
    rest = [("x.pt", 0, PIECE_BYTES), ("x.pt", 2 * PIECE_BYTES, 2 * PIECE_BYTES)]
    assert asked(again.json()) == asked(uploader.get(upload)) == rest
    assert refusal(uploader.put(upload, pieces(1)[0])) == (422, "digest_mismatch")
    uploader.send(again.json(), state=state)
    uploader.committed(upload, state)


def test_digests_declared_later_request_bytes_that_do_not_match(uploader):
    sent = pieces(4)
    state = replaced(sent, [2])
    upload = uploader.begin(declared(sent, hashed=False), save_id=SAVE_ID)
    uploader.send(upload, state=sent)
    again = uploader.reserve(declared(state), save_id=SAVE_ID).json()
    assert asked(again) == [("x.pt", 2 * PIECE_BYTES, PIECE_BYTES)]
    assert refusal(uploader.commit(upload)) == (409, "ranges_missing")
    uploader.send(again, state=state)
    uploader.committed(upload, state)


def test_digests_declared_later_exclude_bytes_that_the_server_holds(uploader):
    held = pieces(3)
    uploader.save(held, "1.pt")
    state = [*held, *pieces(1)]
    upload = uploader.begin(declared(state, hashed=False), save_id=SAVE_ID)
    assert asked(upload) == [("x.pt", 0, 4 * PIECE_BYTES)]
    again = uploader.reserve(declared(state), save_id=SAVE_ID).json()
    assert asked(again) == [("x.pt", 3 * PIECE_BYTES, PIECE_BYTES)]
    uploader.send(again, state=state)
    uploader.committed(upload, state)


def test_digests_once_declared_need_not_be_declared_again(uploader):
    state = pieces(2)
    upload = uploader.begin(declared(state), save_id=SAVE_ID)
    again = uploader.reserve(declared(state, hashed=False), save_id=SAVE_ID)
    assert (again.status_code, again.json()["id"]) == (200, upload["id"])
    assert refusal(uploader.put(upload, pieces(1)[0])) == (422, "digest_mismatch")


@pytest.mark.parametrize(
    ("first", "again"),
    [
        pytest.param(declared([A, B], hashed=False), declared([A + B]), id="cut elsewhere"),
        pytest.param(declared([A, B], hashed=False), declared([A]), id="shorter"),
        pytest.param(declared([A, B], hashed=False), {"size_bytes": 2 * PIECE_BYTES}, id="not cut at all"),
        pytest.param({"size_bytes": 2 * PIECE_BYTES}, declared([A, B]), id="not cut at first"),
        pytest.param(declared([A, B]), declared([A, C]), id="other digests"),
    ],
)
def test_a_save_that_declares_other_content_is_another_save(uploader, first, again):
    uploader.begin(first, save_id=SAVE_ID)
    assert refusal(uploader.reserve(again, save_id=SAVE_ID)) == (422, "save_id_reused")


# bytes that arrive although they are not needed


def test_a_range_that_is_planned_to_be_copied_may_be_sent(uploader):
    held = pieces(5)
    uploader.save(held, "1.pt")
    state = [*held, *pieces(1)]
    upload = uploader.begin(declared(state), name="2.pt")
    assert refusal(uploader.put(upload, pieces(1)[0], PIECE_BYTES)) == (422, "digest_mismatch")
    for place, piece in enumerate(state):
        assert uploader.put(upload, piece, place * PIECE_BYTES).status_code == 200
    uploader.committed(upload, state)


def test_wrong_bytes_do_not_damage_what_has_arrived(uploader):
    state = pieces(2)
    upload = uploader.begin(declared(state))
    uploader.send(upload, state=state)
    assert refusal(uploader.put(upload, pieces(1)[0], PIECE_BYTES)) == (422, "digest_mismatch")
    assert uploader.incoming(upload).read_bytes() == b"".join(state)
    assert asked(uploader.get(upload)) == []
    uploader.committed(upload, state)


@pytest.mark.parametrize("length", [PIECE_BYTES, 1_000_000], ids=["small", "by socket handover"])
def test_of_two_writers_of_one_range_the_right_one_wins(uploader, length):
    for _ in range(5):
        state, wrong = pieces(2, length), pieces(2, length)
        upload = uploader.begin(declared(state))
        with ThreadPoolExecutor(4) as threads:
            sent = [threads.submit(uploader.put, upload, b"".join(data)) for data in (wrong, state, wrong, state)]
        assert [answer.result().status_code for answer in sent] == [422, 200, 422, 200]
        uploader.committed(upload, state)


def test_of_two_writers_without_digests_the_commit_knows_which_one_won(uploader):
    for _ in range(10):
        one, other = pieces(2, 1_000_000), pieces(2, 1_000_000)
        upload = uploader.begin(declared(one, hashed=False))
        with ThreadPoolExecutor(2) as threads:
            sent = [threads.submit(uploader.put, upload, b"".join(data)) for data in (one, other)]
        assert [answer.result().status_code for answer in sent] == [200, 200]
        states = [[one[0], one[1]], [other[0], other[1]], [one[0], other[1]], [other[0], one[1]]]
        answers = [(uploader.commit(upload, declared(state)), state) for state in states]
        (state,) = [state for answer, state in answers if answer.status_code == 201]
        assert uploader.path("x.pt").read_bytes() == b"".join(state)


# a server that is killed


def test_after_a_kill_only_unverified_ranges_are_requested(own):
    state = pieces(6)
    upload = own.begin(declared(state))
    for place in (1, 4):
        own.put(upload, state[place], place * PIECE_BYTES).raise_for_status()
    own.server.restart()
    assert asked(own.get(upload)) == [
        ("x.pt", 0, PIECE_BYTES),
        ("x.pt", 2 * PIECE_BYTES, 2 * PIECE_BYTES),
        ("x.pt", 5 * PIECE_BYTES, PIECE_BYTES),
    ]
    own.send(own.get(upload), state=state)
    own.committed(upload, state)


@pytest.mark.parametrize("looked", [False, True], ids=["at once", "after somebody looked"])
def test_after_a_kill_late_digests_show_which_bytes_have_arrived(own, looked):
    state = pieces(4)
    upload = own.begin(declared(state, hashed=False), save_id=SAVE_ID)
    own.put(upload, b"".join(state[:3])).raise_for_status()
    own.server.restart()
    if looked:
        assert asked(own.get(upload)) == [("x.pt", 0, 4 * PIECE_BYTES)]
    again = own.reserve(declared(state), save_id=SAVE_ID).json()
    assert (again["id"], asked(again)) == (upload["id"], [("x.pt", 3 * PIECE_BYTES, PIECE_BYTES)])
    own.send(again, state=state)
    own.committed(upload, state)


def test_after_a_kill_bytes_on_the_disk_are_not_trusted(own):
    state, garbage = pieces(4), pieces(1)[0]
    upload = own.begin(declared(state))
    for place in (0, 2):
        own.put(upload, state[place], place * PIECE_BYTES).raise_for_status()
    own.server.kill()
    with own.incoming(upload).open("r+b") as file:
        for place in (2, 3):
            file.seek(place * PIECE_BYTES)
            file.write(garbage)
    own.server.start()
    assert asked(own.get(upload)) == [("x.pt", PIECE_BYTES, 3 * PIECE_BYTES)]
    own.send(own.get(upload), state=state)
    own.committed(upload, state)


def test_after_a_kill_copies_are_made_or_requested(own):
    held = pieces(16, 1_000_000)
    own.save(held, "1.pt")
    state = [*held, *pieces(1)]
    upload = own.begin(declared(state), name="2.pt")
    own.server.restart()
    again = own.get(upload)
    assert asked(again) == [("2.pt", 16_000_000, PIECE_BYTES)]
    own.send(again, state=state)
    own.committed(upload, state)


def test_after_a_kill_copies_whose_source_is_gone_are_requested(own):
    held = pieces(3)
    own.save(held)
    upload = own.begin(declared(held))
    own.server.kill()
    own.path("x.pt").unlink()
    own.server.start()
    refused = own.commit(upload)
    assert refusal(refused) == (409, "ranges_missing")
    own.send(own.get(upload), state=held)
    own.committed(upload, held)


# aborting


def test_an_upload_that_is_being_copied_may_be_aborted(uploader):
    held = pieces(8, 4_000_000)
    uploader.save(held, "1.pt")
    upload = uploader.begin(declared(held), name="2.pt")
    assert uploader.abandon(upload).status_code == 204
    assert upload["id"] not in uploader.server.incoming()
    assert uploader.http.get(f"/v1/uploads/{upload['id']}").status_code == 404
    uploader.save(held, "2.pt")


def test_an_upload_that_expires_leaves_no_copied_bytes(make_server):
    server = make_server(upload_lease_s="0.5", janitor_every_s="0.1")
    uploader = Uploader(server, "runs/a")
    held = pieces(3)
    server.save("runs/a", b"".join(held), name="1.pt")
    upload = uploader.begin(declared([b"".join(held)]), name="2.pt")
    assert asked(upload) == []
    assert eventually(lambda: server.incoming() == [])
    assert uploader.http.get(f"/v1/uploads/{upload['id']}").status_code == 404
    assert server.names("runs/a") == ["1.pt"]


def test_two_uploads_may_use_the_same_source_concurrently(uploader):
    held = pieces(6, 1_000_000)
    uploader.save(held, "source.pt")
    states = {f"{number}.pt": [*held[number:], *pieces(1)] for number in range(4)}
    with ThreadPoolExecutor(4) as threads:
        saved = {name: threads.submit(uploader.save, state, name) for name, state in states.items()}
    assert len({found.result()["id"] for found in saved.values()}) == 4
