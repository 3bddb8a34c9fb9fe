"""Reindex: rebuilds the catalog from the files, which are the truth about live checkpoints."""

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from app.catalog import Session
from app.catalog.rows.uploads import Saved
from app.core.models import Checkpoint, Directory, Manifest
from app.service.state.context import Context
from app.storage.ports import SurveyedRecord, Trashed


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """The result of a rebuild: counts; in words, the faults that were left alone and the oddities of the rest.

    ``removed`` counts the removed checkpoints that only the trash knew, ``why`` is the reason of a rebuild at a start.
    """

    directories: int
    checkpoints: int
    faults: Sequence[str]
    remarks: Sequence[str]
    removed: int = 0
    why: str = ""


def rebuild(context: Context, *, is_behind: bool = False, read: Callable[[int], object] = lambda _: None) -> Rebuilt:
    """Replace the rows of live checkpoints and directories by what the files say. Atomic.

    Rows of removed checkpoints stay, except those that were purged and are on the disk again, whole: the operator has
    put them back. Removed checkpoints that only the trash knows are added.

    Parameters
    ----------
    is_behind : bool
        The catalog is not the one that was last in use: checkpoints that it has as removed and that are in their place
        were restored since, and its uploads are gone unless their bytes are there.
    read : callable
        Called with the number of manifests read so far.
    """
    faults, remarks = [], []
    unreadable: set[str] = set()
    directories: dict[str, Directory] = {}
    manifests: dict[str, Manifest] = {}
    for found in context.storage.records.survey():
        if fault := found.fault or _doubled(found, manifests):
            faults.append(f"{found.key}: {fault}")
            unreadable.add(found.key)
            continue
        if found.warning:
            remarks.append(f"{found.key}: {found.warning}")
        if found.directory is not None:
            directories[found.directory.name] = found.directory
        elif found.manifest is not None:
            manifests[found.manifest.checkpoint.id] = found.manifest
            read(len(manifests))
    trashed = context.storage.content.trashed()
    removed = [_as_removed(found) for found in trashed if found.manifest.checkpoint.id not in manifests]
    for manifest in (*manifests.values(), *removed):
        _count(directories, manifest)
    with context.catalog.writing() as session:
        verified = session.checkpoints.verified()
        lost = {} if is_behind else session.checkpoints.live_names_by_id()
        session.checkpoints.forget_live()
        if is_behind:
            session.checkpoints.forget_removed(manifests)
            session.uploads.forget_except(context.storage.content.uploads() - manifests.keys())
        back = session.checkpoints.forget_freed(manifests)
        known = session.checkpoints.numbers()
        removed = [manifest for manifest in removed if manifest.checkpoint.id not in known]
        left, odd = insert_records(session, directories, [*manifests.values(), *removed])
        session.checkpoints.put_verified(verified)
        _note_rebuilding(session, context.clock())
    faults += _lost(context, lost, manifests, unreadable)
    odd += [
        f"{_path(manifests[found])}: it was removed before, and the operator has put it back" for found in sorted(back)
    ]
    return Rebuilt(len(directories), len(manifests) - len(left), [*faults, *left], [*remarks, *odd], len(removed))


def _note_rebuilding(session: Session, now: datetime) -> None:
    """Let no client resume after an event that this catalog does not have: it would miss changes without a word."""
    event_id = session.events.id_after_a_loss(now)
    session.events.add("catalog.rebuilt", at=now, directory="", event_id=event_id)
    session.horizons.note_lost("events", event_id - 1, now)


def _lost(
    context: Context,
    live: Mapping[str, tuple[str, str]],
    manifests: Mapping[str, Manifest],
    reported: Container[str],
) -> list[str]:
    """List checkpoints that the catalog had and no manifest describes, except those with a reported manifest."""
    return [
        f"{directory}/{name}: the catalog had it, and there is no manifest of it; it is not in the catalog any more"
        for found, (directory, name) in sorted(live.items(), key=lambda each: each[1])
        if found not in manifests and context.storage.records.manifest_key(directory, name) not in reported
    ]


def _as_removed(found: Trashed) -> Manifest:
    checkpoint = replace(
        found.manifest.checkpoint, removed_at=found.removed_at, removed_because=found.because, trashed=True
    )
    return replace(found.manifest, checkpoint=checkpoint)


def _doubled(found: SurveyedRecord, manifests: dict[str, Manifest]) -> str | None:
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


def insert_records(
    session: Session, directories: dict[str, Directory], manifests: Sequence[Manifest]
) -> tuple[list[str], list[str]]:
    """Insert the rows of directories and checkpoints in few statements; one for each row would take far longer.

    Gives, in words, the faults that were left alone and the oddities of the rest.
    """
    faults: list[str] = []
    remarks: list[str] = []
    for name, directory in directories.items():
        directories[name] = replace(directory, sequence=max(directory.sequence, session.directories.counter(name)))
    removed = session.checkpoints.numbers()
    live = []
    for manifest in sorted(manifests, key=_age):
        if manifest.checkpoint.id in removed:
            faults.append(f"{_path(manifest)}: it was removed and its bytes are still being purged")
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
    """Renumber checkpoints whose number is taken, as after two directories were merged by hand."""
    renumbered = []
    for place, manifest in enumerate(live):
        checkpoint = manifest.checkpoint
        if (checkpoint.directory, checkpoint.sequence) in taken:
            directory = directories[checkpoint.directory]
            directories[directory.name] = replace(directory, sequence=directory.sequence + 1)
            is_direct = checkpoint.saved_after == checkpoint.sequence - 1
            after = directory.sequence if is_direct else checkpoint.saved_after
            checkpoint = replace(checkpoint, sequence=directory.sequence + 1, saved_after=after)
            live[place] = replace(manifest, checkpoint=checkpoint)
            renumbered.append(checkpoint)
            remarks.append(f"{_path(manifest)}: its number was taken; it is now {checkpoint.sequence}")
        taken.add((checkpoint.directory, checkpoint.sequence))
    return renumbered


def _age(manifest: Manifest) -> tuple[bool, int, datetime]:
    """Sort live checkpoints first, so that they keep their numbers; of two with one number, the older one does."""
    checkpoint = manifest.checkpoint
    return checkpoint.removed_at is not None, checkpoint.sequence, checkpoint.created_at


def _path(manifest: Manifest) -> str:
    return f"{manifest.checkpoint.directory}/{manifest.checkpoint.name}"
