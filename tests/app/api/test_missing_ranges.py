"""Missing ranges: a response lists a bounded number and counts the rest."""

import pytest

from tests.data.delta_states import PIECE_BYTES, Uploader, asked, declared, pieces, refusal
from tests.support.live import LiveServer

MOST = 3


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """A server that lists few missing ranges."""
    with LiveServer(tmp_path_factory.mktemp("short") / "root", max_ranges=str(MOST)) as live:
        yield live


def gaps(short, directory, count, length=PIECE_BYTES):
    """Reserve an upload and send every second piece; returns its state."""
    uploader, state = Uploader(short, directory), pieces(2 * count, length)
    upload = uploader.begin(declared(state))
    for place in range(0, 2 * count, 2):
        assert uploader.put(upload, state[place], offset=place * length).status_code == 200
    return uploader, state, uploader.get(upload)


def counted(answer):
    return len(answer["missing"]), answer["missing_count"], answer["missing_bytes"]


def test_an_answer_lists_the_first_ranges_and_counts_all(short, directory):
    uploader, state, upload = gaps(short, directory, 8)
    places = [place * PIECE_BYTES for place in range(1, 16, 2)]
    assert counted(upload) == (MOST, 8, 8 * PIECE_BYTES)
    assert [offset for _, offset, _ in asked(upload)] == places[:MOST]
    uploader.send(upload, state=state)
    upload = uploader.get(upload)
    assert counted(upload) == (MOST, 5, 5 * PIECE_BYTES)
    assert [offset for _, offset, _ in asked(upload)] == places[MOST : 2 * MOST]
    again = uploader.reserve(declared(state), save_id="other-save")
    assert counted(again.json()) == (1, 1, 16 * PIECE_BYTES)


def test_a_refusal_lists_no_more_and_counts_all(short, directory):
    uploader, _, upload = gaps(short, directory, 8)
    answer = uploader.commit(upload)
    assert refusal(answer) == (409, "ranges_missing")
    assert counted(answer.json()) == (MOST, 8, 8 * PIECE_BYTES)


def test_a_refusal_names_a_thousand_ranges(server, directory):
    uploader, _, upload = gaps(server, directory, 1200, length=1)
    assert counted(upload) == (1200, 1200, 1200)
    answer = uploader.commit(upload)
    assert counted(answer.json()) == (1000, 1200, 1200)
    assert "1200 range(s)" in answer.json()["detail"]


def test_a_client_that_reserves_again_after_each_refusal_ends_well(short, directory):
    """Clients that do not know the counts work like this."""
    uploader, state = Uploader(short, directory), pieces(8)
    files = [{**declared([piece]), "path": f"{place}.bin"} for place, piece in enumerate(state)]
    contents = {f"{place}.bin": [piece] for place, piece in enumerate(state)}
    rounds = 0
    while (rounds := rounds + 1) < 5:
        upload = uploader.reserve(*files, save_id="a-save-of-files").json()
        uploader.send(upload, **contents)
        answer = uploader.commit(upload)
        if answer.status_code == 201:
            break
        assert refusal(answer) == (409, "ranges_missing")
    assert (answer.status_code, rounds) == (201, 3)
    assert counted(uploader.get(upload)) == (0, 0, 0)


def test_batches_are_of_files_that_are_listed(short, directory):
    files = [{"path": f"{place}.bin", "size_bytes": 10} for place in range(8)]
    upload = Uploader(short, directory).begin(*files)
    listed = {wanted["file"] for wanted in upload["missing"]}
    assert [{part["file"] for part in batch["parts"]} for batch in upload["batches"]] == [listed]
