"""Concurrent clients: nothing is lost or incomplete, and every answer is right."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from holdfast import CheckpointManager

SAVES = 30


@pytest.mark.filterwarnings("ignore::holdfast.HoldfastWarning")
def test_readers_never_see_a_replacement_in_the_making(server, directory):
    """Writers replace the same names while readers load the latest and the best."""
    CheckpointManager(directory, server=server.url).save({"writer": -1, "n": -1}, epoch=0, metric=1.0)

    def write(writer):
        manager = CheckpointManager(directory, 1, 1, server=server.url)
        for n in range(SAVES):
            manager.save({"writer": writer, "n": n}, epoch=n % 3, metric=float(n % 5))

    def read(_):
        manager = CheckpointManager(directory, server=server.url)
        return [state for _ in range(SAVES) for state in (manager.load_latest(), manager.load_best())]

    with ThreadPoolExecutor(6) as pool:
        writers = [pool.submit(write, number) for number in range(2)]
        readers = [pool.submit(read, number) for number in range(4)]
        for writer in writers:
            writer.result()
        states = [state for reader in readers for state in reader.result()]
    assert len(states) == 4 * 2 * SAVES
    assert all(set(state) == {"writer", "n"} for state in states)


def test_several_writers_at_once_leave_a_sequence_without_doubles(server, directory):
    def write(writer):
        manager = CheckpointManager(directory, None, None, server=server.url)
        return [manager.save({"writer": writer, "n": n}, epoch=writer * 1000 + n) for n in range(SAVES)]

    with ThreadPoolExecutor(3) as pool:
        paths = [path for written in pool.map(write, range(3)) for path in written]
    found = server.http.get("/v1/checkpoints", params={"directory": directory, "page_size": 1000}).json()["checkpoints"]
    assert len({checkpoint["sequence"] for checkpoint in found}) == 3 * SAVES
    assert len({checkpoint["saved_after"] for checkpoint in found}) == 3 * SAVES
    assert {checkpoint["name"] for checkpoint in found} == {path.name for path in paths}


def test_the_same_save_from_many_connections_is_one_checkpoint(server, directory):
    params = {"directory": directory, "epoch": 1, "save_id": "the-same-save"}
    others = set(server.incoming())

    def save(_):
        while True:
            answer = server.http.post("/v1/checkpoints", params=params, content=b"content")
            if answer.status_code != 409:
                assert answer.is_success, answer.text
                return answer.json()["id"]
            assert answer.json()["code"] == "upload_busy"

    with ThreadPoolExecutor(6) as pool:
        ids = set(pool.map(save, range(12)))
    assert len(ids) == 1
    assert set(server.incoming()) <= others
    assert server.names(directory) == ["checkpoint_epoch_0001.pt"]
