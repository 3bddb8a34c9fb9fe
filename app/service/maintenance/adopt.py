"""Take in what other tools wrote: where it lies, or copied from elsewhere. Nothing that was there is changed."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from secrets import token_hex

from app.catalog import Session
from app.core import digests
from app.core import names as naming
from app.core.errors import Refusal
from app.core.models import ADOPTED, Checkpoint, Directory, Facts, File, FileMap, Manifest, Mode
from app.formats import tensor_index
from app.formats.foreign_names import Stranger, in_order
from app.service.commit.finalize import cut, hashed
from app.service.maintenance import adopt_facts
from app.service.maintenance.adopt_scan import Left, Seen, Strange, joined, look, shown, stranger_at
from app.service.state.context import Context
from app.service.state.transitions import record_save
from app.storage.port import CHANGED, Visited

_OTHER = "{} exists and is something else; nothing is overwritten"
_KEPT = ("max_checkpoints", "max_best_checkpoints")


class CannotAdopt(Exception):
    """Nothing can be taken in at all; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Adopted:
    """What became of one folder: how many checkpoints were taken in, how many were known before."""

    directory: str
    taken: int
    size_bytes: int
    known: int
    others: int
    mode: Mode | None = None
    """The mode that the directory takes from the metrics of these."""
    checkpoints: tuple[str, ...] = ()
    """Their names, in the order in which they were taken in."""


def adopt(
    context: Context, folder: str, name: str | None, *, dry_run: bool, read: Callable[[int], object] = lambda _: None
) -> Iterator[Adopted | Left]:
    """Take in every checkpoint in a folder and below, directory by directory. May be repeated until all are there.

    Parameters
    ----------
    name : str, optional
        Where a folder that lies outside the root is copied to below it; by default its own path.
    read : callable, optional
        Told the size in bytes of each checkpoint once that was read.

    Raises
    ------
    CannotAdopt
        The folder cannot be read, holds the root or belongs to its records, or the name does not fit.
    """
    try:
        visited = context.storage.adoption.visit(folder)
    except OSError as error:
        raise CannotAdopt(f"{folder} cannot be read: {error}") from error
    with closing(visited):
        yield from _Adoption(context, visited, _target(context, visited, name), dry_run, read).below("")


def _target(context: Context, visited: Visited, name: str | None) -> str:
    """The name that the folder has, or is to have, below the root."""
    if visited.within is not None:
        if name is not None:
            raise CannotAdopt(f"{visited.address} lies in the root already: it is taken in where it is, without --as.")
        if ".holdfast" in visited.within.split("/"):
            raise CannotAdopt(f"{visited.address} belongs to the server's own records.")
        return visited.within
    if f"{context.storage.adoption.home().address}/".startswith(f"{visited.address.rstrip('/')}/"):
        raise CannotAdopt(f"{visited.address} holds the server's root: name a folder that does not.")
    try:
        return naming.directory_name(visited.address.lstrip("/") if name is None else name)
    except Refusal as refusal:
        raise CannotAdopt(f"{refusal.detail} Choose a name below the root with --as.") from refusal


class _Adoption:
    """One run."""

    def __init__(
        self, context: Context, visited: Visited, target: str, dry_run: bool, read: Callable[[int], object]
    ) -> None:
        self._context = context
        self._visited = visited
        self._target = target
        self._dry_run = dry_run
        self._read = read
        self._adoption = context.storage.adoption
        self._home = self._adoption.home()

    def below(self, path: str) -> Iterator[Adopted | Left]:
        """Take in what lies in a folder of those visited, then what lies below it."""
        directory = joined(self._target, path)
        misnamed = _misnamed(directory)
        try:
            seen = look(self._visited, path, set() if misnamed else self._known_here(directory))
        except (OSError, Refusal) as error:
            yield Left(shown(self._visited, path), str(error), True)
            return
        yield from seen.left
        if misnamed:
            yield from (Left(self._shown(path, stranger), misnamed, True) for stranger in seen.strangers)
        elif seen.strangers or seen.known:
            yield from self._take(directory, path, seen)
        for folder in seen.folders:
            yield from self.below(joined(path, folder))

    def _known_here(self, directory: str) -> set[str]:
        """The names of what lies among the visited files and is a checkpoint already."""
        if self._visited.within is None:
            return set()
        with self._context.catalog.reading() as session:
            return {checkpoint.name for checkpoint in session.checkpoints.live(directory)}

    def _take(self, directory: str, path: str, seen: Seen) -> Iterator[Adopted | Left]:
        left: list[Left] = []
        new: list[Stranger] = []
        known = seen.known
        with self._context.catalog.reading() as session:
            before = session.directories.get(directory) or Directory(directory, self._context.clock())
            obstacle = _obstacle(session, before)
            for stranger in seen.strangers:
                standing = session.checkpoints.named(directory, stranger.name)
                if standing is not None and _is_same(standing, stranger):
                    known += 1
                elif why := obstacle or self._in_the_way(session, directory, stranger):
                    left.append(Left(self._shown(path, stranger), why, True))
                else:
                    new.append(stranger)
        said = {stranger.name: adopt_facts.told_of(self._visited, path, stranger) for stranger in new}
        metric, mode = adopt_facts.metric_of(self._context.catalog, before, said.values())
        ordered = in_order(new, said)
        before_new = replace(before, policy=replace(before.policy, mode=mode or before.policy.mode))
        facts = {name: adopt_facts.facts(one, metric) for name, one in said.items()}
        taken = ordered if self._dry_run else self._take_new(before_new, path, ordered, facts, left)
        if obstacle and left:  # one line says it for all
            left = [Left(shown(self._visited, path), f"{obstacle} ({len(left)} checkpoints)", True)]
        size_bytes, names = sum(one.size_bytes for one in taken), tuple(one.name for one in taken)
        yield Adopted(directory, len(taken), size_bytes, known, seen.others, mode if taken else None, names)
        yield from left

    def _in_the_way(self, session: Session, directory: str, stranger: Stranger) -> str | None:
        if session.checkpoints.named(directory, stranger.name) is not None:
            return f"another checkpoint is called {directory}/{stranger.name} already"
        if session.checkpoints.to_withdraw(directory, stranger.name):
            return "a checkpoint of this name was removed, and its bytes are still being freed"
        if session.directories.anything_below(f"{directory}/{stranger.name}"):
            return f"{directory}/{stranger.name} is a directory of checkpoints already"
        try:
            manifest = self._adoption.standing(directory, stranger.name)
            if manifest is not None and not manifest.checkpoint.save_id.startswith(ADOPTED):
                return "its manifest is there, but the catalog does not know it: run reindex"
            there = None if self._visited.within is not None else stranger_at(self._home, directory, stranger.name)
        except (OSError, Refusal) as error:
            return str(error)
        if there is not None and there != stranger:
            return _OTHER.format(f"{directory}/{stranger.name}")
        return None

    def _take_new(
        self,
        before: Directory,
        path: str,
        new: Sequence[Stranger],
        facts: Mapping[str, Facts],
        left: list[Left],
    ) -> list[Stranger]:
        """Give each its manifest, oldest first, then all of them their rows; those that were taken in."""
        taken: list[Stranger] = []
        manifests: list[Manifest] = []
        after = _keeping_everything(before)
        for stranger in new:
            try:
                manifest = self._manifest(before, path, stranger, after.sequence + 1, facts[stranger.name])
                if not taken:  # before any manifest: should a crash come now, a reindex must not find other limits
                    self._context.storage.make_directory(after)
                    self._context.storage.write_directory(after)
                self._adoption.settle(manifest, copied=self._visited.within is None)
            except (OSError, Refusal) as error:
                left.append(Left(self._shown(path, stranger), str(error), True))
                continue
            after = replace(after, sequence=after.sequence + 1)
            taken.append(stranger)
            manifests.append(manifest)
            self._read(stranger.size_bytes)
        if manifests:
            self._record(after, manifests)
        return taken

    def _manifest(self, directory: Directory, path: str, stranger: Stranger, sequence: int, facts: Facts) -> Manifest:
        """All that can be said of a checkpoint once its bytes were read; copied before, where it lies elsewhere."""
        place = f"{directory.name}/{stranger.name}"
        copied = self._copied(stranger, joined(path, stranger.name), directory.name)
        begun = self._adoption.standing(directory.name, stranger.name)
        maps = copied or self._maps_begun(begun, stranger) or self._maps(stranger, place)
        files = tuple(
            File(file, size_bytes, digests.of_file(maps[file].chunks), mtime_ns)
            for file, size_bytes, mtime_ns in sorted(stranger.files)
        )
        checkpoint = Checkpoint(
            id=begun.checkpoint.id if begun is not None else token_hex(16),
            directory=directory.name,
            name=stranger.name,
            save_id=begun.checkpoint.save_id if begun is not None else f"{ADOPTED}{token_hex(16)}",
            sequence=sequence,
            saved_after=sequence - 1,
            facts=facts,
            files=files,
            digest=digests.of_checkpoint((file.path, file.digest) for file in files),
            created_at=_time(stranger.mtime_ns),
        )
        return Manifest(checkpoint, maps)

    def _copied(self, stranger: Stranger, source: str, directory: str) -> dict[str, FileMap] | None:
        """Bring a copy of what lies elsewhere to its place, once it was read back; None where it is there already."""
        if self._visited.within is not None:
            return None
        place = f"{directory}/{stranger.name}"
        if stranger_at(self._home, directory, stranger.name) is not None:
            self._refuse_other(stranger, source, place)
            return None
        with self._adoption.copying(self._visited, source) as copy:
            if stranger_at(self._home, copy.rpartition("/")[0], stranger.name) != stranger:
                raise Strange(CHANGED.format(source))
            maps = self._maps(stranger, copy)
            self._adoption.put(copy, place)
        return maps

    def _refuse_other(self, stranger: Stranger, source: str, place: str) -> None:
        """What lies in its place has the same sizes and times; an earlier run copied it only if it is the same."""
        for file, size_bytes, _ in stranger.files:
            inner = file if stranger.is_folder else ""
            with (
                closing(self._visited.open(joined(source, inner))) as theirs,
                closing(self._adoption.open(joined(place, inner))) as ours,
            ):
                if hashed(theirs, cut(size_bytes)) != hashed(ours, cut(size_bytes)):
                    raise Strange(_OTHER.format(place))

    def _maps_begun(self, begun: Manifest | None, stranger: Stranger) -> dict[str, FileMap] | None:
        """What an earlier run that was interrupted found out, unless the files have changed since."""
        return dict(begun.maps) if begun is not None and _is_same(begun.checkpoint, stranger) else None

    def _maps(self, stranger: Stranger, place: str) -> dict[str, FileMap]:
        return {
            file: self._map(
                joined(place, file) if stranger.is_folder else place,
                size_bytes,
                mtime_ns,
                is_indexed=not stranger.is_folder or tensor_index.is_looked_into(file),
            )
            for file, size_bytes, mtime_ns in stranger.files
        }

    def _map(self, path: str, size_bytes: int, mtime_ns: int, *, is_indexed: bool) -> FileMap:
        with closing(self._adoption.open(path)) as opened:
            chunks = hashed(opened, cut(size_bytes))
            tensors = tensor_index.read(opened.read, size_bytes) if is_indexed else None
            if (opened.size_bytes, opened.mtime_ns) != (size_bytes, mtime_ns) or not opened.is_as_opened():
                raise Strange(CHANGED.format(path))
            return FileMap(chunks, tensors)

    def _record(self, after: Directory, manifests: Sequence[Manifest]) -> None:
        now = self._context.clock()
        with self._context.catalog.writing() as session:
            session.directories.put(after)
            session.checkpoints.add(*manifests)
            for checkpoint in (manifest.checkpoint for manifest in manifests):
                record_save(session, checkpoint.id, checkpoint, at=now)

    def _shown(self, path: str, stranger: Stranger) -> str:
        return shown(self._visited, joined(path, stranger.name))


def _misnamed(directory: str) -> str | None:
    """Why a folder cannot be a directory; the catalog is not asked about such a name."""
    if not directory:
        return "what lies in the root itself has no directory; move it into a folder"
    try:
        naming.directory_name(directory)
    except Refusal as refusal:
        return refusal.detail
    return None


def _obstacle(session: Session, directory: Directory) -> str | None:
    """What keeps a directory from taking anything in."""
    if taken := session.directories.taken_by_checkpoint(directory.name):
        return f"{taken!r} is a checkpoint"
    if not directory.policy.keeps_everything:
        limits = {name: getattr(directory.policy, name) for name in _KEPT}
        said = ", ".join(f"{name}={value}" for name, value in limits.items() if value is not None)
        return (
            f"the policy of {directory.name!r} would remove some of what it holds ({said}): let it keep everything, "
            f'with PUT /v1/directories/{directory.name} {{"max_checkpoints": null, "max_best_checkpoints": null}}, '
            "then adopt again"
        )
    return None


def _keeping_everything(directory: Directory) -> Directory:
    """The directory under a policy whose limits no save can set: what is adopted is not removed by the next save."""
    policy = directory.policy
    return replace(directory, policy=replace(policy, operator=policy.operator | set(_KEPT)))


def _is_same(checkpoint: Checkpoint, stranger: Stranger) -> bool:
    files = tuple((file.path, file.size_bytes, file.mtime_ns) for file in checkpoint.files)
    return files == tuple(sorted(stranger.files)) and checkpoint.is_folder == stranger.is_folder


def _time(mtime_ns: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=mtime_ns // 1000)
