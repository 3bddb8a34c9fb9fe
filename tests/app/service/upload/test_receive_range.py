"""Ranges whose bodies pause: bytes wait in few buffers or in their files, and none counts before it is verified."""

from contextlib import ExitStack, closing

import pytest

from app.bootstrap import open_root
from app.core.errors import DigestMismatch
from app.core.models import Chunk, Save, UploadFile
from app.core.spans import Span
from app.service.upload.buffers import KEPT, SPARE, Buffers
from app.settings import Settings
from tests.data.delta_states import chunks_of, pieces
from tests.data.samples import feed

DIRECTORY = "runs/a"
CHUNK_BYTES = 64 * 1024
MANY = 2 * KEPT


@pytest.fixture
def service(tmp_path):
    with closing(open_root(Settings(root=tmp_path / "root"))) as opened:
        yield opened


def begin(service, state, *, hashed=True):
    chunks = chunks_of(state) if hashed else tuple(Chunk(len(piece), "") for piece in state)
    file = UploadFile("", sum(map(len, state)), chunks)
    return service.reservations.reserve(Save(directory=DIRECTORY, name="x.pt", files=(file,))).upload


def receiving(service, upload, number):
    return service.transfers.receive(upload.id, upload.name, Span(number * CHUNK_BYTES, (number + 1) * CHUNK_BYTES))


def missing(service, upload):
    return [wanted.span.start // CHUNK_BYTES for wanted in service.transfers.missing(upload).ranges]


def feed_and_pause(receiver, data, piece=10_000):
    for start in range(0, len(data), piece):
        feed(receiver, data[start : start + piece])
        receiver.pause()


def committed(service, upload):
    checkpoint = service.commits.commit(upload.id).checkpoint
    return (service.context.storage.tree.root / DIRECTORY / checkpoint.name).read_bytes()


@pytest.mark.parametrize("hashed", [True, False], ids=["declared", "undeclared"])
def test_bodies_that_pause_arrive_as_they_were_sent(service, hashed):
    state = pieces(MANY, CHUNK_BYTES)
    upload = begin(service, state, hashed=hashed)
    with ExitStack() as stack:
        receivers = [stack.enter_context(receiving(service, upload, number)) for number in range(MANY)]
        for half in (slice(0, CHUNK_BYTES // 2), slice(CHUNK_BYTES // 2, CHUNK_BYTES - 1)):
            for receiver, data in zip(receivers, state, strict=True):
                feed_and_pause(receiver, data[half])
            assert service.transfers.missing(upload).size_bytes == MANY * CHUNK_BYTES
        for receiver, data in zip(receivers, state, strict=True):
            feed_and_pause(receiver, data[-1:])
            receiver.finish()
    assert committed(service, upload) == b"".join(state)


def test_a_body_of_undeclared_length_arrives_as_it_was_sent(service):
    state = pieces(MANY, CHUNK_BYTES)
    with ExitStack() as stack:
        saves = [
            stack.enter_context(
                service.single_requests.begin(
                    Save(directory=DIRECTORY, name=f"{number}.pt", files=(UploadFile(f"{number}.pt", None),))
                )
            )
            for number in range(MANY)
        ]
        for save, data in zip(saves, state, strict=True):
            feed_and_pause(save, data)
        for save in saves:
            save.finish()
    folder = service.context.storage.tree.root / DIRECTORY
    assert [(folder / f"{number}.pt").read_bytes() for number in range(MANY)] == state


def test_bytes_that_wait_in_the_file_are_verified(service):
    state = pieces(MANY, CHUNK_BYTES)
    upload = begin(service, state)
    with ExitStack() as stack:
        receivers = [stack.enter_context(receiving(service, upload, number)) for number in range(MANY)]
        for receiver, data in zip(receivers, state, strict=True):
            feed_and_pause(receiver, bytes([data[0] ^ 1]) + data[1:-1])
        for receiver, data in zip(receivers, state, strict=True):
            with pytest.raises(DigestMismatch):
                feed(receiver, data[-1:])
    assert missing(service, upload) == [0]  # one range of all chunks
    for number, data in enumerate(state):
        with receiving(service, upload, number) as receiver:
            feed(receiver, data)
            receiver.finish()
    assert committed(service, upload) == b"".join(state)


def test_bytes_that_wait_overwrite_none_that_arrived(service):
    state = pieces(MANY, CHUNK_BYTES)
    upload = begin(service, state)
    with ExitStack() as stack:
        receivers = [stack.enter_context(receiving(service, upload, number)) for number in range(MANY)]
        for receiver in receivers:
            feed_and_pause(receiver, b"!" * 1000)
        for number, data in enumerate(state):
            with receiving(service, upload, number) as receiver:
                feed(receiver, data)
                receiver.finish()
        for receiver in receivers:
            feed_and_pause(receiver, b"!" * 50_000)
    assert committed(service, upload) == b"".join(state)


def test_few_buffers_are_kept():
    buffers = Buffers(most_kept=2)
    taken = [buffers.take() for _ in range(10)]
    assert [buffers.keep() for _ in range(3)] == [True, True, False]
    buffers.resume()
    assert [buffers.keep() for _ in range(2)] == [True, False]
    for buffer in taken:
        buffers.give(buffer)
    again = [buffers.take() for _ in range(10)]
    assert len({id(buffer) for buffer in again} & {id(buffer) for buffer in taken}) == SPARE
