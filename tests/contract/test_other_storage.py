"""The whole server and the real client over a storage without files, folders, descriptors or a disk."""

import socket
import threading
from contextlib import contextmanager

import httpx
import pytest
import torch
import uvicorn

from app.bootstrap import open_storage
from app.cli.serve import _protocol
from app.main import create_app
from app.service.maintenance.adopt import CannotAdopt, adopt
from app.service.maintenance.fsck import Fsck
from app.settings import Settings
from holdfast import CheckpointManager
from tests.data.states import assert_same
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
    with serve(catalog="another") as (checkpoints, url):
        manager = CheckpointManager(DIRECTORY, server=url)
        assert_same(manager.load_best(), state(1))
        assert_same(manager.load_latest(), state(2))
        assert Fsck(checkpoints.context).run() == []


def test_a_removed_checkpoint_is_restored_and_then_purged(serve, bucket):
    with serve(undo_window="1d") as (checkpoints, url):
        path = CheckpointManager(DIRECTORY, server=url).save({"n": 1}, epoch=1)
        found = httpx.get(f"{url}/v1/checkpoints/latest", params={"directory": DIRECTORY}).json()
        assert httpx.delete(f"{url}/v1/checkpoints/{found['id']}").is_success
        assert eventually(lambda: checkpoints.context.storage.content.trash() == {found["id"]})
        assert httpx.post(f"{url}/v1/checkpoints/{found['id']}/restore").is_success
        assert CheckpointManager(DIRECTORY, server=url).load(path) == {"n": 1}
    with serve() as (_, url):
        assert httpx.delete(f"{url}/v1/checkpoints/{found['id']}").is_success
        assert eventually(lambda: not kept(bucket))


def test_what_only_a_disk_has_is_left_out(serve):
    with serve() as (checkpoints, url):
        assert "holdfast_free_bytes" not in httpx.get(f"{url}/metrics").text
        assert (
            "disk" not in httpx.get(f"{url}/storage").text.partition('id="storage-disk"')[2].partition("</section>")[0]
        )
        with pytest.raises(CannotAdopt):
            list(adopt(checkpoints.context, "/tmp", None, dry_run=True))


def test_ranges_have_the_urls_of_the_store(serve):
    with serve(url="https://bucket.example") as (_, url):
        save = {"directory": DIRECTORY, "name": "a.pt", "files": [{"size_bytes": 3}]}
        upload = httpx.post(f"{url}/v1/uploads", json=save).json()
        (missing,) = upload["missing"]
        assert missing["url"] == f"https://bucket.example/{upload['id']}/a.pt?from=0"
        assert missing["headers"] == {"X-Signed": "yes"}
        assert httpx.put(f"{url}/v1/uploads/{upload['id']}/files/a.pt?offset=0&length=3", content=b"abc").is_success
        assert httpx.post(f"{url}/v1/uploads/{upload['id']}/commit", json={}).is_success
        (file,) = httpx.get(f"{url}/v1/checkpoints/{upload['id']}/chunks").json()["files"]
        assert [found["url"] for found in file["ranges"]] == [f"https://bucket.example/{upload['id']}/a.pt?from=0"]
