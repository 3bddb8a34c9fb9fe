"""Make the catalog anew from the files: what they say is the truth about live checkpoints."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from app.catalog import Session
from app.catalog.uploads import Saved
from app.checkpoints.parts import Parts
from app.domain import Checkpoint, Directory, Manifest
from app.storage.base import Found


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """How much was found, and what could not be believed, in words."""

    directories: int
    checkpoints: int
    faults: Sequence[str]


def rebuild(parts: Parts) -> Rebuilt:
    """Replace what the catalog says of live checkpoints and directories by what the files say.

    Facts of removed checkpoints, which only the catalog knows, stay as they are. One transaction: all or nothing.
    """
    faults = []
    directories: dict[str, Directory] = {}
    manifests: dict[str, Manifest] = {}
    for found in parts.storage.survey():
        if fault := found.fault or _doubled(found, manifests):
            faults.append(f"{found.where}: {fault}")
        elif found.directory is not None:
            name = found.where.rpartition("/.holdfast/")[0]
            directories[name] = replace(found.directory, name=name)
        elif found.manifest is not None:
            manifests[found.manifest.checkpoint.id] = found.manifest
    for manifest in manifests.values():
        _count(directories, manifest)
    with parts.catalog.writing() as session:
        session.checkpoints.forget_live()
        for directory in directories.values():
            known = session.directories.get(directory.name)
            sequence = max(directory.sequence, known.sequence if known else 0)
            session.directories.put(replace(directory, sequence=sequence))
        for manifest in sorted(manifests.values(), key=lambda m: m.checkpoint.sequence):
            _restore(session, manifest, faults)
    return Rebuilt(len(directories), len(manifests), faults)


def _doubled(found: Found, manifests: dict[str, Manifest]) -> str | None:
    if found.manifest is None:
        return None
    checkpoint = found.manifest.checkpoint
    first = manifests.get(checkpoint.id)
    if first is not None:
        return f"it has the id of {first.checkpoint.directory}/{first.checkpoint.name}"
    return None


def _count(directories: dict[str, Directory], manifest: Manifest) -> None:
    checkpoint = manifest.checkpoint
    directory = directories.get(checkpoint.directory) or Directory(checkpoint.directory, checkpoint.created_at)
    directories[directory.name] = replace(directory, sequence=max(directory.sequence, checkpoint.sequence))


def _restore(session: Session, manifest: Manifest, faults: list[str]) -> None:
    checkpoint = manifest.checkpoint
    if session.checkpoints.get(checkpoint.id) is not None:
        faults.append(f"{checkpoint.directory}/{checkpoint.name}: it was removed and its bytes are still being freed")
        return
    doubled = session.checkpoints.sequence_taken(checkpoint.directory, checkpoint.sequence)
    if doubled:
        checkpoint = _renumbered(session, checkpoint)
        faults.append(
            f"{checkpoint.directory}/{checkpoint.name}: its number was taken; it is now {checkpoint.sequence}"
        )
    session.checkpoints.add(replace(manifest, checkpoint=checkpoint))
    if doubled:
        session.checkpoints.change(checkpoint)  # so that its manifest is brought up to date
    if session.uploads.saved(checkpoint.directory, checkpoint.save_id) is None:
        session.uploads.add_save(
            checkpoint.directory, checkpoint.save_id, Saved(checkpoint.id, checkpoint.id, checkpoint.digest)
        )


def _renumbered(session: Session, checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint under the next number of its directory, as two directories may have been put together by hand."""
    directory = session.directories.get(checkpoint.directory)
    assert directory is not None, "directories are restored before checkpoints"
    session.directories.put(replace(directory, sequence=directory.sequence + 1))
    return replace(checkpoint, sequence=directory.sequence + 1)
