"""The whole server and the real client over a storage without files, folders, descriptors or a disk."""

import socket
import threading
from contextlib import contextmanager
from dataclasses import replace

import httpx
import pytest
import torch
import uvicorn

from app.bootstrap import open_storage
from app.cli.serve import _protocol
from app.core import digests
from app.main import create_app
from app.service.maintenance.adopt import CannotAdopt, adopt
from app.service.maintenance.fsck import Fsck
from app.settings import Settings
from holdfast import CheckpointManager
from tests.data.states import assert_same
from tests.support.bucket_server import serving_bucket
from tests.support.live import eventually
from tests.support.memory_storage import Bucket, memory_storage

DIRECTORY = "runs/a"


class OneServer(uvicorn.Server):
    """A server on a thread, which gets no signals."""

    @contextmanager
    def capture_signals(self):
        yield


@pytest.fixture
def bucket():
    return Bucket()


@pytest.fixture
def serve(tmp_path, bucket):
    """Serves the bucket, as often as the test likes; each time under a new catalog if that is lost."""

    @contextmanager
    def serving(*, catalog="catalog", url=None, **settings):
        chosen = Settings(root=tmp_path / "none", database_url=f"sqlite:///{tmp_path}/{catalog}.db", **settings)
        checkpoints, _ = open_storage(chosen, memory_storage(bucket, url=url))
        listener = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(create_app(chosen, checkpoints), http=_protocol(chosen), ws="none", log_config=None)
        server = OneServer(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            assert eventually(lambda: server.started)
            yield checkpoints, f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()

    return serving


def state(seed):
    """Tensors of 8 MiB in all, so that they go by the transfer of large bodies."""
    values = torch.Generator().manual_seed(seed)
    return {f"layer{n}": torch.rand(512 * 1024, generator=values) for n in range(4)}


def kept(bucket):
    return [key for key in bucket.objects if key.startswith("data/")]


def test_a_state_is_saved_loaded_replaced_and_pruned(serve, bucket, tmp_path):
    with serve() as (_, url):
        manager = CheckpointManager(DIRECTORY, server=url, max_checkpoints=2)
        for epoch in range(3):
            manager.save(state(epoch), epoch=epoch)
        assert_same(manager.load_latest(), state(2))
        assert eventually(lambda: len(kept(bucket)) == 2)
        mixed = state(2) | {"layer0": state(9)["layer0"]}
        path = manager.save(mixed, epoch=3)
        assert_same(manager.load(path), mixed)
        assert_same(manager.load(path, only=("layer0",)), {"layer0": mixed["layer0"]})
        manager.download(path, to=tmp_path / "downloaded.pt")
        assert (tmp_path / "downloaded.pt").stat().st_size > 8 * 1024 * 1024
    assert not (tmp_path / "none").exists(), "a file was written beside the bucket"


def test_a_lost_catalog_is_rebuilt_from_the_bucket(serve, bucket):
    with serve() as (_, url):
        manager = CheckpointManager(DIRECTORY, server=url, mode="min")
        manager.save(state(1), epoch=1, metric=0.5)
        manager.save(state(2), epoch=2, metric=0.7)
    with serve(catalog="another") as (service, url):
        manager = CheckpointManager(DIRECTORY, server=url)
        assert_same(manager.load_best(), state(1))
        assert_same(manager.load_latest(), state(2))
        assert Fsck(service.context).run() == []


def test_faults_are_found_and_repaired_by_keys_that_are_no_paths(serve, bucket):
    with serve() as (service, url):
        manager = CheckpointManager(DIRECTORY, server=url)
        for epoch in range(3):
            manager.save({"n": epoch}, epoch=epoch)
        (lost, bare, altered) = sorted(kept(bucket), key=lambda key: bucket.objects[key].version)
        names = [key.removeprefix("data/").partition("/")[2] for key in (lost, bare)]
        for key in [lost, f"meta/{DIRECTORY}/directory.json", *(f"meta/{DIRECTORY}/{name}.json" for name in names)]:
            del bucket.objects[key]
        data = bucket.objects[altered].data
        bucket.objects[altered] = replace(bucket.objects[altered], data=data[:-1] + bytes([data[-1] ^ 1]))
        check = Fsck(service.context)
        faults = check.run()
        assert {fault.kind: fault.repair is not None for fault in faults} == {
            "record": True,
            "stale": True,
            "altered": False,
        }
        assert [fault.where for fault in faults if fault.kind == "altered"] == [altered]
        assert [outcome for _, outcome in check.repaired(faults)].count("repaired") == len(faults) - 1 == 3
        assert [fault.kind for fault in Fsck(service.context).run()] == ["altered"]


def test_a_removed_checkpoint_is_restored_and_then_purged(serve, bucket):
    with serve(undo_window="1d") as (service, url):
        path = CheckpointManager(DIRECTORY, server=url).save({"n": 1}, epoch=1)
        found = httpx.get(f"{url}/v1/checkpoints/latest", params={"directory": DIRECTORY}).json()
        assert httpx.delete(f"{url}/v1/checkpoints/{found['id']}").is_success
        assert eventually(lambda: service.context.storage.content.trash() == {found["id"]})
        assert httpx.post(f"{url}/v1/checkpoints/{found['id']}/restore").is_success
        assert CheckpointManager(DIRECTORY, server=url).load(path) == {"n": 1}
    with serve() as (_, url):
        assert httpx.delete(f"{url}/v1/checkpoints/{found['id']}").is_success
        assert eventually(lambda: not kept(bucket))


def test_what_only_a_disk_has_is_left_out(serve):
    with serve() as (service, url):
        assert "holdfast_free_bytes" not in httpx.get(f"{url}/metrics").text
        assert (
            "disk" not in httpx.get(f"{url}/storage").text.partition('id="storage-disk"')[2].partition("</section>")[0]
        )
        with pytest.raises(CannotAdopt):
            list(adopt(service.context, "/tmp", None, dry_run=True))


@pytest.fixture
def endpoint(bucket):
    with serving_bucket(bucket) as found:
        yield found


@pytest.mark.parametrize("token", [None, "a-secret-of-the-server"])
def test_ranges_go_past_the_server_both_ways(serve, bucket, endpoint, token):
    with serve(url=endpoint.url, admin_token=token) as (_, url):
        manager = CheckpointManager(DIRECTORY, server=url, token=token)
        manager.save(state(1), epoch=1)
        size_bytes = len(bucket.objects[kept(bucket)[0]].data)
        assert sum(endpoint.sent) == size_bytes > 8 * 1024 * 1024
        assert_same(manager.load_latest(), state(1))
        assert sum(endpoint.fetched) >= 8 * 1024 * 1024
        mixed = state(1) | {"layer0": state(9)["layer0"]}
        manager.save(mixed, epoch=2)
        assert sum(endpoint.sent) < 1.5 * size_bytes, "the server copies what it has"
        assert_same(manager.load_latest(), mixed)


def test_bytes_that_are_altered_past_the_server_are_found_and_sent_again(serve, bucket, endpoint):
    with serve(url=endpoint.url) as (checkpoints, url):
        manager = CheckpointManager(DIRECTORY, server=url)
        endpoint.spoil = 1
        manager.save(state(1), epoch=1)
        assert endpoint.spoil == 0
        size_bytes = len(bucket.objects[kept(bucket)[0]].data)
        assert sum(endpoint.sent) == 2 * size_bytes
        assert_same(manager.load_latest(), state(1))
        assert Fsck(checkpoints.context).run() == []


def reserved(url, data, *, hashed):
    digest = {"digest": digests.of_chunk(data)} if hashed else {}
    files = [{"size_bytes": len(data), "chunks": [{"length": len(data), **digest}]}]
    answer = httpx.post(f"{url}/v1/uploads", json={"directory": DIRECTORY, "name": "a.pt", "save_id": "save-of-a",
                                                   "files": files})  # fmt: skip
    assert answer.is_success, answer.text
    return answer.json()


def put(wanted, data):
    return httpx.put(wanted["url"], headers=wanted["headers"], content=data)


@pytest.mark.parametrize("hashed", [True, False], ids=["hashed", "not hashed"])
def test_a_server_that_was_restarted_asks_the_store_what_has_arrived(serve, bucket, endpoint, hashed):
    with serve(url=endpoint.url) as (_, url):
        upload = reserved(url, b"weights", hashed=hashed)
        (missing,) = upload["missing"]
        assert put(missing, b"weights").is_success
    with serve(url=endpoint.url) as (_, url):
        found = httpx.get(f"{url}/v1/uploads/{upload['id']}").json()
        assert (found["missing"], found["missing_count"], found["missing_bytes"]) == ([], 0, 0)
        assert httpx.post(f"{url}/v1/uploads/{upload['id']}/commit", json={}).status_code == 201
        (file,) = httpx.get(f"{url}/v1/checkpoints/{upload['id']}/chunks").json()["files"]
        assert [chunk["digest"] for chunk in file["chunks"]] == [digests.of_chunk(b"weights")]
        (found,) = file["ranges"]
        assert httpx.get(found["url"], headers=found["headers"]).content == b"weights"


@pytest.mark.parametrize("hashed", [True, False], ids=["hashed", "not hashed"])
def test_a_commit_of_other_bytes_than_declared_is_refused_and_all_are_missing_again(serve, bucket, endpoint, hashed):
    with serve(url=endpoint.url) as (_, url):
        upload = reserved(url, b"weights", hashed=hashed)
        (missing,) = upload["missing"]
        assert put(missing, b"WEIGHTS").is_success
        commit = f"{url}/v1/uploads/{upload['id']}/commit"
        chunks = [{"length": 7, "digest": digests.of_chunk(b"weights")}]
        answer = httpx.post(commit, json={"files": [{"chunks": chunks}]})
        assert (answer.status_code, answer.json()["code"]) == (422, "digest_mismatch")
        assert not put(missing, b"weights").is_success, "a URL outlived the check of the bytes"
        answer = httpx.post(commit, json={"files": [{"chunks": chunks}]})
        assert (answer.status_code, answer.json()["code"]) == (409, "ranges_missing")
        (missing,) = reserved(url, b"weights", hashed=True)["missing"]
        assert put(missing, b"weights").is_success
        assert httpx.post(commit, json={}).status_code == 201
        assert [bucket.objects[key].data for key in kept(bucket)] == [b"weights"]


def test_a_range_that_passed_the_server_and_was_then_replaced_at_its_url_is_not_trusted(serve, endpoint):
    with serve(url=endpoint.url) as (_, url):
        upload = reserved(url, b"weights", hashed=True)
        (missing,) = upload["missing"]
        at = f"{url}/v1/uploads/{upload['id']}"
        assert httpx.put(f"{at}/files/a.pt?offset=0&length=7", content=b"weights").is_success
        assert put(missing, b"WEIGHTS").is_success
        answer = httpx.post(f"{at}/commit", json={})
        assert (answer.status_code, answer.json()["code"]) == (422, "digest_mismatch")


def test_a_commit_signs_no_urls(serve, bucket, endpoint, monkeypatch):
    with serve(url=endpoint.url) as (checkpoints, url):
        upload = reserved(url, b"weights", hashed=True)
        signed = []
        store = checkpoints.context.storage.content
        sign = store.upload_url
        monkeypatch.setattr(store, "upload_url", lambda *given: signed.append(given) or sign(*given))
        answer = httpx.post(f"{url}/v1/uploads/{upload['id']}/commit", json={})
        assert (answer.json()["code"], signed) == ("ranges_missing", [])
        assert httpx.get(f"{url}/v1/uploads/{upload['id']}").json()["missing_count"] == len(signed) == 1
