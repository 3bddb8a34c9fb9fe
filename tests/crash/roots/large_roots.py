"""Roots of many thousand checkpoints, made in seconds: put down as the server puts them, but without its commits."""

import math
import random
from datetime import timedelta
from pathlib import Path

from app.core import digests, ranking
from app.core.models import Checkpoint, Chunk, Directory, Facts, File, FileMap, Manifest, Policy
from app.service import Service
from app.storage import manifest
from tests.data.samples import AT

METRICS = [None, 0.0, 0.25, 0.25, -1.5, 7.0, math.nan, math.inf, -math.inf]
METADATA = [{}, {"loss": 0.5}, {"loss": 2, "note": "é"}, {"loss": "NaN", "deep": {"list": [1, None, 0.1]}}]
POLICIES = [
    Policy(),
    Policy("max"),
    Policy("min", 100_000, 3, 10),
    Policy("max", None, 5, operator=frozenset({"max_checkpoints", "max_best_checkpoints"})),
]


def fill(service: Service, name: str, count: int, seed: int) -> list[Checkpoint]:
    """Put that many checkpoints with facts of every kind into a new directory, files first, then rows."""
    chance = random.Random(seed)
    policy = POLICIES[seed % len(POLICIES)]
    directory = Directory(name, AT, 1, policy, "writer@host", AT)
    storage = service.context.storage
    storage.records.make_directory(directory)
    storage.records.write_directory(directory)  # with the counter of its first commit: the manifests tell the rest
    place = storage.tree.root / name  # type: ignore[attr-defined]
    made = [_put(place, name, sequence, chance) for sequence in range(1, count + 1)]
    with service.context.catalog.writing() as session:
        session.directories.put(Directory(name, AT, count, policy, "writer@host", AT))
        session.checkpoints.add(*made)
    return [one.checkpoint for one in made]


def _put(place: Path, directory: str, sequence: int, chance: random.Random) -> Manifest:
    name = f"c{sequence}" if sequence % 10 == 0 else f"c{sequence}.pt"
    contents = {path: chance.randbytes(sequence % 50) for path in ([name] if sequence % 10 else ["a", "sub/.b"])}
    for path, data in contents.items():
        file = place / path if path == name else place / name / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    maps = {path: FileMap(_chunks(data)) for path, data in contents.items()}
    files = tuple(
        File(path, len(contents[path]), digests.of_file(maps[path].chunks), str(AT.microsecond))
        for path in sorted(maps)
    )
    late = chance.randrange(sequence) if sequence % 7 == 0 else None
    made = Checkpoint(
        id=f"{chance.getrandbits(128):032x}",
        directory=directory,
        name=name,
        save_id=f"save-{sequence}",
        sequence=sequence,
        saved_after=ranking.saved_after(late, sequence),
        facts=_facts(sequence, chance),
        files=files,
        digest=digests.of_checkpoint((file.path, file.digest) for file in files),
        created_at=AT + timedelta(seconds=chance.randrange(1000), microseconds=chance.randrange(3)),
    )
    whole = Manifest(made, maps, writer="writer@host")
    (place / ".holdfast" / f"{name}.json").write_bytes(manifest.dump(whole))
    return whole


def _chunks(data: bytes) -> tuple[Chunk, ...]:
    return (Chunk(len(data), digests.of_chunk(data)),) if data else ()


def _facts(sequence: int, chance: random.Random) -> Facts:
    return Facts(
        kind="best" if sequence % 11 == 0 else "regular",
        epoch=chance.choice([None, sequence, sequence // 3]),
        metric=chance.choice(METRICS),
        is_best=sequence % 5 == 0,
        pinned=sequence % 13 == 0,
        tags=tuple(chance.sample(["x", "é", "release-1"], chance.randrange(3))),
        metadata=chance.choice(METADATA),
    )
