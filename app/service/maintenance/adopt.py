"""Adoption of checkpoints that other tools wrote, in place or copied into the root. Changes no existing file."""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace

from app.catalog import Session
from app.core import names as naming
from app.core.errors import Refusal
from app.core.models import ADOPTED, Directory, Mode
from app.formats.foreign_names import ExternalCheckpoint, in_order
from app.service.maintenance import adopt_facts
from app.service.maintenance.adopt_facts import Ranking
from app.service.maintenance.adopt_scan import Scan, Skipped, external_at, joined, printable_path, scan
from app.service.maintenance.adopt_write import KEPT_LIMITS, OTHER_CONTENT, AdoptionWriter, is_same
from app.service.state.context import Context
from app.storage.ports import Adoption, ExternalFolder


class CannotAdopt(Exception):
    """The folder cannot be adopted at all; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Adopted:
    """The result for one folder: the numbers of checkpoints that were adopted, and that were known before."""

    directory: str
    taken: int
    size_bytes: int
    known: int
    others: int
    mode: Mode | None = None
    """The mode that the directory takes over from the metrics of the adopted checkpoints."""
    checkpoints: tuple[str, ...] = ()
    """The names of the adopted checkpoints, in order."""


def adopt(
    context: Context,
    folder: str,
    name: str | None,
    *,
    dry_run: bool,
    ranking: Ranking | None = None,
    read: Callable[[int], object] = lambda _: None,
) -> Iterator[Adopted | Skipped]:
    """Adopt every checkpoint in a folder and below, directory by directory. Idempotent.

    Parameters
    ----------
    name : str, optional
        The name in the root for a folder outside of it, which is copied; by default its own path.
    ranking : Ranking, optional
        The value that becomes the metric, and the mode, of directories in which some checkpoint has that value. By
        default the one on which all agree.
    read : callable, optional
        Called with the size in bytes of each checkpoint that was read.

    Raises
    ------
    CannotAdopt
        The folder cannot be read, holds the root or belongs to its records, or the name does not fit.
    """
    adoption = context.storage.adoption
    if adoption is None:
        raise CannotAdopt("this storage cannot adopt files: it has no access to files of other tools")
    try:
        visited = adoption.open_folder(folder)
    except OSError as error:
        raise CannotAdopt(f"{folder} cannot be read: {error}") from error
    with closing(visited):
        target = _target(adoption, visited, name)
        yield from _Adoption(context, adoption, visited, target, dry_run, ranking, read).below("")


def _target(adoption: Adoption, visited: ExternalFolder, name: str | None) -> str:
    """Give the present or the future name of the folder below the root."""
    if visited.within is not None:
        if name is not None:
            raise CannotAdopt(f"{visited.address} is in the root already: it is adopted in place, without --as.")
        if naming.RESERVED in visited.within.split("/"):
            raise CannotAdopt(f"{visited.address} belongs to the server's own records.")
        return visited.within
    if f"{adoption.open_root_folder().address}/".startswith(f"{visited.address.rstrip('/')}/"):
        raise CannotAdopt(f"{visited.address} holds the server's root: name a folder that does not.")
    try:
        return naming.directory_name(visited.address.lstrip("/") if name is None else name)
    except Refusal as refusal:
        raise CannotAdopt(f"{refusal.detail} Choose a name below the root with --as.") from refusal


class _Adoption:
    """One run."""

    def __init__(
        self,
        context: Context,
        adoption: Adoption,
        visited: ExternalFolder,
        target: str,
        dry_run: bool,
        ranking: Ranking | None,
        read: Callable[[int], object],
    ) -> None:
        self._context = context
        self._visited = visited
        self._target = target
        self._dry_run = dry_run
        self._ranking = ranking
        self._writer = AdoptionWriter(context, adoption, visited, read)
        self._adoption = adoption
        self._root = adoption.open_root_folder()

    def below(self, path: str) -> Iterator[Adopted | Skipped]:
        """Adopt the checkpoints of one folder, then those below it."""
        directory = joined(self._target, path)
        misnamed = _misnamed(directory)
        try:
            seen = scan(self._visited, path, set() if misnamed else self._known_here(directory))
        except (OSError, Refusal) as error:
            yield Skipped(printable_path(self._visited, path), str(error), True)
            return
        yield from seen.skipped
        if misnamed:
            yield from (Skipped(self._shown(path, external), misnamed, True) for external in seen.checkpoints)
        elif seen.checkpoints or seen.known:
            yield from self._take(directory, path, seen)
        for folder in seen.folders:
            yield from self.below(joined(path, folder))

    def _known_here(self, directory: str) -> set[str]:
        """List the names in the folder that are checkpoints of the catalog already."""
        if self._visited.within is None:
            return set()
        with self._context.catalog.reading() as session:
            return {checkpoint.name for checkpoint in session.checkpoints.live(directory)}

    def _take(self, directory: str, path: str, seen: Scan) -> Iterator[Adopted | Skipped]:
        skipped: list[Skipped] = []
        new: list[ExternalCheckpoint] = []
        known = seen.known
        with self._context.catalog.reading() as session:
            before = session.directories.get(directory) or Directory(directory, self._context.clock())
            conflict = _conflict(session, before, self._ranking)
            for external in seen.checkpoints:
                current = session.checkpoints.named(directory, external.name)
                if current is not None and is_same(current, external, self._adoption):
                    known += 1
                elif why := conflict or self._in_the_way(session, directory, external):
                    skipped.append(Skipped(self._shown(path, external), why, True))
                else:
                    new.append(external)
        said = {external.name: adopt_facts.record_of(self._visited, path, external) for external in new}
        ranking = adopt_facts.metric_of(self._context.catalog, before, said.values(), self._ranking)
        mode = ranking.mode if ranking is not None else None
        ordered = in_order(new, said)
        before_new = replace(before, policy=replace(before.policy, mode=mode or before.policy.mode))
        facts = {name: adopt_facts.facts(one, ranking) for name, one in said.items()}
        taken = ordered if self._dry_run else self._writer.write(before_new, path, ordered, facts, skipped)
        if conflict and skipped:  # one line for all of them
            skipped = [Skipped(printable_path(self._visited, path), f"{conflict} ({len(skipped)} checkpoints)", True)]
        size_bytes, names = sum(one.size_bytes for one in taken), tuple(one.name for one in taken)
        yield Adopted(directory, len(taken), size_bytes, known, seen.others, mode if taken else None, names)
        yield from skipped

    def _in_the_way(self, session: Session, directory: str, external: ExternalCheckpoint) -> str | None:
        if session.checkpoints.named(directory, external.name) is not None:
            return f"another checkpoint is called {directory}/{external.name} already"
        if session.checkpoints.to_move_to_trash(directory, external.name):
            return "a checkpoint of this name was removed, and its bytes are still being purged"
        if session.directories.anything_below(f"{directory}/{external.name}"):
            return f"{directory}/{external.name} is a directory of checkpoints already"
        try:
            manifest = self._adoption.manifest_at(directory, external.name)
            if manifest is not None and not manifest.checkpoint.save_id.startswith(ADOPTED):
                return "its manifest is there, but the catalog does not know it: run reindex"
            there = None if self._visited.within is not None else external_at(self._root, directory, external.name)
        except (OSError, Refusal) as error:
            return str(error)
        if there is not None and there != external:
            return OTHER_CONTENT.format(f"{directory}/{external.name}")
        return None

    def _shown(self, path: str, external: ExternalCheckpoint) -> str:
        return printable_path(self._visited, joined(path, external.name))


def _misnamed(directory: str) -> str | None:
    """Give the reason why a folder cannot be a directory; such a name is not looked up in the catalog."""
    if not directory:
        return "a checkpoint in the root itself has no directory; move it into a folder"
    try:
        naming.directory_name(directory)
    except Refusal as refusal:
        return refusal.detail
    return None


def _conflict(session: Session, directory: Directory, ranking: Ranking | None) -> str | None:
    """Give the reason why a directory cannot adopt any checkpoint."""
    if taken := session.directories.taken_by_checkpoint(directory.name):
        return f"{taken!r} is a checkpoint"
    if ranking is not None and directory.policy.mode not in {None, ranking.mode}:
        return f"{directory.name!r} ranks by mode={directory.policy.mode}, not by mode={ranking.mode}"
    if not directory.policy.keeps_everything:
        limits = {name: getattr(directory.policy, name) for name in KEPT_LIMITS}
        said = ", ".join(f"{name}={value}" for name, value in limits.items() if value is not None)
        return (
            f"the policy of {directory.name!r} would remove some of what it holds ({said}): let it keep everything, "
            f'with PUT /v1/directories/{directory.name} {{"max_checkpoints": null, "max_best_checkpoints": null}}, '
            "then adopt again"
        )
    return None
