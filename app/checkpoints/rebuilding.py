"""Make the catalog anew from the files: what they say is the truth about live checkpoints."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from app.catalog import Session
from app.catalog.uploads import Saved
from app.checkpoints.parts import Parts
from app.domain import Checkpoint, Directory, Manifest
from app.storage.base import Found


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """How much was found; in words, what was left alone, and what was odd about the rest."""

    directories: int
    checkpoints: int
    faults: Sequence[str]
    remarks: Sequence[str]


def rebuild(parts: Parts, *, read: Callable[[int], object] = lambda _: None) -> Rebuilt:
    """Replace what the catalog says of live checkpoints and directories by what the files say.

    Facts of removed checkpoints, which only the catalog knows, stay as they are, but for those whose bytes were given
    back and that lie there again, whole: somebody has put them back. One transaction: all or nothing.

    ``read`` is told how many manifests were read so far.
    """
    faults, remarks = [], []
    directories: dict[str, Directory] = {}
    manifests: dict[str, Manifest] = {}
    for found in parts.storage.survey():
        if fault := found.fault or _doubled(found, manifests):
            faults.append(f"{found.where}: {fault}")
            continue
        if found.doubt:
            remarks.append(f"{found.where}: {found.doubt}")
        if found.directory is not None:
            name = found.where.rpartition("/.holdfast/")[0]
            directories[name] = replace(found.directory, name=name)
        elif found.manifest is not None:
            manifests[found.manifest.checkpoint.id] = found.manifest
            read(len(manifests))
    for manifest in manifests.values():
        _count(directories, manifest)
    with parts.catalog.writing() as session:
        verified = session.checkpoints.verified()
        session.checkpoints.forget_live()
        back = session.checkpoints.forget_freed(manifests)
        left, odd = restore(session, directories, list(manifests.values()))
        session.checkpoints.put_verified(verified)
    odd += [f"{_path(manifests[found])}: it was removed once, and somebody has put it back" for found in sorted(back)]
    return Rebuilt(len(directories), len(manifests) - len(left), [*faults, *left], [*remarks, *odd])


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


def restore(
    session: Session, directories: dict[str, Directory], manifests: Sequence[Manifest]
) -> tuple[list[str], list[str]]:
    """Put all into the catalog, in few statements: one for each row would take several times as long.

    Gives, in words, what was left alone and what was odd about the rest.
    """
    faults: list[str] = []
    remarks: list[str] = []
    for name, directory in directories.items():
        if known := session.directories.get(name):
            directories[name] = replace(directory, sequence=max(directory.sequence, known.sequence))
    removed = session.checkpoints.numbers()
    live = []
    for manifest in sorted(manifests, key=lambda m: m.checkpoint.sequence):
        if manifest.checkpoint.id in removed:
            faults.append(f"{_path(manifest)}: it was removed and its bytes are still being freed")
        else:
            live.append(manifest)
    renumbered = _renumber(directories, live, set(removed.values()), remarks)
    for directory in directories.values():
        session.directories.put(directory)
    session.checkpoints.add(*live)
    for checkpoint in renumbered:
        session.checkpoints.change(checkpoint)  # so that its manifest is brought up to date
    known_saves = session.uploads.saves()
    saves: dict[tuple[str, str], Saved] = {}
    for checkpoint in (manifest.checkpoint for manifest in live):
        if (key := (checkpoint.directory, checkpoint.save_id)) not in known_saves:
            saves.setdefault(key, Saved(checkpoint.id, checkpoint.id, checkpoint.digest))
    session.uploads.add_saves(saves)
    return faults, remarks


def _renumber(
    directories: dict[str, Directory], live: list[Manifest], taken: set[tuple[str, int]], remarks: list[str]
) -> list[Checkpoint]:
    """Give the next number of its directory to each whose own is taken, as when two were put together by hand."""
    renumbered = []
    for place, manifest in enumerate(live):
        checkpoint = manifest.checkpoint
        if (checkpoint.directory, checkpoint.sequence) in taken:
            directory = directories[checkpoint.directory]
            directories[directory.name] = replace(directory, sequence=directory.sequence + 1)
            checkpoint = replace(checkpoint, sequence=directory.sequence + 1)
            live[place] = replace(manifest, checkpoint=checkpoint)
            renumbered.append(checkpoint)
            remarks.append(f"{_path(manifest)}: its number was taken; it is now {checkpoint.sequence}")
        taken.add((checkpoint.directory, checkpoint.sequence))
    return renumbered


def _path(manifest: Manifest) -> str:
    return f"{manifest.checkpoint.directory}/{manifest.checkpoint.name}"
