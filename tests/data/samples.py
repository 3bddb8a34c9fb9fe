"""Checkpoints, uploads and manifests to test with, and histories for Hypothesis to make up."""

import math
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import strategies as st

from app.core import digests
from app.core.models import Checkpoint, Chunk, Facts, File, FileMap, Manifest, Upload, UploadFile

AT = datetime(2026, 11, 23, 14, 5, 1, tzinfo=UTC)
METRICS = st.none() | st.sampled_from([0.0, -0.0, 0.5, -0.5, 2.0, math.nan, math.inf, -math.inf]) | st.floats()
VALUES = (
    st.none()
    | st.booleans()
    | st.sampled_from([0, 1, -1, 0.5, "NaN", "0.5", [1]])
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
)
FACTS = st.builds(
    Facts,
    kind=st.sampled_from(["regular", "best"]),
    epoch=st.none() | st.integers(0, 12),
    step=st.none() | st.integers(0, 12),
    metric=METRICS,
    is_best=st.booleans(),
    pinned=st.booleans(),
    retention=st.sampled_from(["policy", "policy", "policy", "manual"]),
    metadata=st.dictionaries(st.sampled_from(["loss", "accuracy"]), VALUES),
)


def checkpoint(sequence=1, *, saved_after=None, directory="runs/a", facts=None, size_bytes=1, at=AT, **changed):
    """A checkpoint of one file that was never written; ``changed`` are its facts where ``facts`` are not given."""
    name = f"c{sequence}.pt"
    return Checkpoint(
        id=f"{directory.replace('/', '-')}-{sequence}",
        directory=directory,
        name=name,
        save_id=f"save-{sequence}",
        sequence=sequence,
        saved_after=sequence - 1 if saved_after is None else saved_after,
        facts=facts or Facts(**changed),
        files=(File(name, size_bytes, "0" * 64, "0"),),
        digest="0" * 64,
        created_at=at,
    )


@st.composite
def histories(draw, *, min_size=0, max_size=10, directory="runs/a"):
    """The checkpoints of a directory in any order, some of them delivered late."""
    count = draw(st.integers(min_size, max_size))
    made = [
        checkpoint(
            sequence,
            saved_after=draw(st.integers(0, sequence - 1)),
            directory=directory,
            facts=draw(FACTS),
            size_bytes=draw(st.integers(0, 3)),
            at=AT + timedelta(seconds=draw(st.integers(-2, 2))),
        )
        for sequence in range(1, count + 1)
    ]
    return draw(st.permutations(made))


def upload(files, *, name="model.pt", directory="runs/a", upload_id="upload1"):
    """A reservation for these files, given as their bytes by path."""
    return Upload(
        directory=directory,
        name=name,
        save_id=f"save-{upload_id}",
        files=tuple(UploadFile(path, len(data)) for path, data in files.items()),
        id=upload_id,
        created_at=AT,
        expires_at=AT + timedelta(days=1),
    )


def manifest(upload, files, *, sequence=1, versions=None, replaces=None, facts=None):
    """The manifest of an upload of these files, each of one chunk."""
    maps = {path: FileMap((Chunk(len(data), digests.of_chunk(data)),) if data else ()) for path, data in files.items()}
    found = tuple(
        File(path, len(files[path]), digests.of_file(maps[path].chunks), (versions or {}).get(path, "0"))
        for path in sorted(files)
    )
    made = Checkpoint(
        id=upload.id,
        directory=upload.directory,
        name=upload.name,
        save_id=upload.save_id,
        sequence=sequence,
        saved_after=sequence - 1,
        facts=facts or Facts(),
        files=found,
        digest=digests.of_checkpoint((file.path, file.digest) for file in found),
        created_at=AT,
    )
    return Manifest(made, maps, replaces)


def sealed(storage, files, *, sequence=1, replaces=None, **place):
    """Bring an upload of these files up to its commit point; its manifest."""
    promised = upload(files, **place)
    storage.content.begin(promised)
    for path, data in files.items():
        with storage.content.partial(promised, path) as partial:
            partial.write(0, data)
    made = manifest(promised, files, sequence=sequence, versions=storage.content.finalize(promised), replaces=replaces)
    storage.content.seal(promised.id, made)
    return made


def sealed_whole(storage, files, *, sequence=1, **place):
    """Write an upload of these files whole, and bring it to its commit point; its manifest."""
    promised = upload(files, **place)
    versions = storage.content.write_whole(promised, files)
    made = manifest(promised, files, sequence=sequence, versions=versions)
    storage.content.seal(promised.id, made)
    return made


def published(storage, files, **place):
    """Bring an upload of these files all the way; the checkpoint."""
    made = sealed(storage, files, **place)
    storage.content.publish(made.checkpoint.id, made)
    storage.content.discard(made.checkpoint.id)
    return made.checkpoint


def below(root: Path):
    """Return everything below a folder: the bytes of files, the targets of links, None for folders and all else."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        found[name] = path.readlink() if path.is_symlink() else path.read_bytes() if path.is_file() else None
    return found


def files_in(found, folder):
    """Of what lies below a root, the files in a folder that are not the server's own, by path."""
    return {
        path.removeprefix(f"{folder}/"): data
        for path, data in found.items()
        if path.startswith(f"{folder}/") and ".holdfast" not in path.removeprefix(folder) and data is not None
    }


def changes(act, *arguments, **options):
    """The calls that change the disk or make it durable, in order, as the interpreter really makes them."""
    seen = []

    def note(frame, event, function):
        if event == "c_call" and function.__name__ in {"mkdir", "flush", "fsync", "rename", "link", "unlink"}:
            seen.append(function.__name__)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        act(*arguments, **options)
    finally:
        sys.setprofile(before)
    return seen


def descriptors():
    """The descriptors that this process has open."""
    return sorted(path.name for path in Path("/proc/self/fd").iterdir() if path.is_symlink())


def feed(sink, data):
    """Put bytes into a receiver or a shot, as a request's body would be."""
    while data:
        buffer = sink.get_buffer()
        count = min(len(buffer), len(data))
        buffer[:count] = data[:count]
        sink.buffer_updated(count)
        data = data[count:]
