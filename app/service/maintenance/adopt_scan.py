"""Scan of a folder that other tools wrote into: checkpoints to adopt, and what is skipped, with reasons."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field

from app.core import names as naming
from app.core.errors import ForeignFile, Refusal
from app.core.names import escaped
from app.formats import companion_files, name_groups, weight_formats
from app.formats.foreign_names import SUFFIXES, ExternalCheckpoint, facts_in_name, is_unfinished, looks_like_checkpoint
from app.storage.ports import Entry, ExternalFolder


@dataclass(frozen=True, slots=True)
class Skipped:
    """A path that is skipped, with the reason; ``is_missed`` if it looks like a checkpoint."""

    where: str
    why: str
    is_missed: bool


@dataclass(slots=True)
class Scan:
    """The contents of one folder.

    ``folders`` are to be scanned next, ``known`` counts checkpoints of the catalog, ``others`` counts other files.
    """

    checkpoints: list[ExternalCheckpoint] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    known: int = 0
    others: int = 0


def scan(visited: ExternalFolder, path: str, known: Collection[str]) -> Scan:
    """Scan one folder; ``known`` are the names that are checkpoints already."""
    seen = Scan()
    entries = visited.entries(path)
    around = _Around.of(visited, path, [entry for entry in entries if entry.name not in known])
    together = around.together
    for entry in entries:
        if entry.name in known:
            seen.known += 1
            continue
        where = joined(path, entry.name)
        if entry.name == naming.RESERVED:
            if visited.within is None:
                seen.skipped.append(
                    Skipped(printable_path(visited, where), "it is the record of another Holdfast", False)
                )
            continue
        is_checkpoint = _looks_like_checkpoint(entry)
        try:
            _refuse_unadoptable(entry, is_checkpoint)
            if entry.what == "folder":
                if is_unfinished(entry.name):
                    is_checkpoint = True
                    raise NotAdoptable("it was not completed: its tool gives it another name once it is")
                if not is_checkpoint and (why := around.why_a_part(entry.name)) and _holds_weights(visited, where):
                    is_checkpoint = True
                    raise NotAdoptable(why)
                _take_folder(seen, visited, path, entry, is_checkpoint or _is_whole(visited, where))
            elif is_checkpoint or (entry.name not in together and _is_certain(visited, where, entry)):
                is_checkpoint = True
                _refuse_part(around.beside(entry.name))
                if entry.name in around.of_files:
                    raise NotAdoptable(companion_files.reason_for_group(around.of_files[entry.name]))
                _refuse_other_content(visited, where, entry)
                seen.checkpoints.append(ExternalCheckpoint(entry.name, False, tuple(_files(visited, path, entry))))
            elif entry.name in together or entry.name.lower().endswith(companion_files.OTHER_FORMATS):
                _leave_other(seen, visited, where, entry.name, together)
            else:
                seen.others += 1
        except (Refusal, OSError) as error:
            seen.skipped.append(Skipped(printable_path(visited, where), str(error), is_checkpoint))
    return seen


@dataclass(frozen=True, slots=True)
class _Around:
    """The names in one folder that belong together."""

    names: list[str]
    together: list[str]
    """The parts of one checkpoint by the names that their format gives them."""
    weights: list[str]
    of_a_model: list[str]
    of_files: Mapping[str, Collection[str]]
    of_folders: Mapping[str, Collection[str]]
    folders: list[str]
    whole: list[str]
    """The names that mark the whole folder as one checkpoint: its own, or a file that lists its components."""

    @classmethod
    def of(cls, visited: ExternalFolder, path: str, entries: Collection[Entry]) -> "_Around":
        names = [entry.name for entry in entries]
        files = [entry.name for entry in entries if entry.what == "file"]
        folders = [entry.name for entry in entries if entry.what == "folder"]
        weights = [name for name in names if looks_like_checkpoint(name, is_folder=False)]
        whole = companion_files.pipeline(names)
        own = visited.address.rpartition("/")[2]
        if not path and looks_like_checkpoint(own, is_folder=True) and not _holds_several(visited, path):
            whole.append(own)
        return cls(
            names=names,
            together=companion_files.parts(names),
            weights=weights,
            of_a_model=companion_files.of_a_model(names, weights),
            of_files=name_groups.of_files(files),
            of_folders=name_groups.of_folders(folders),
            folders=folders,
            whole=whole,
        )

    def beside(self, name: str) -> list[str]:
        """List the names that belong to one file of weights."""
        of_all = name in self.together or bool(self.whole)
        others = [*self.together, *self.weights] if of_all else self.together
        return companion_files.beside(name, self.names, [*others, *self.of_a_model])

    def why_a_part(self, name: str) -> str | None:
        """Give the reason why a folder that is not named as a checkpoint is a part of one; None if it is none."""
        if checkpoints := companion_files.of_last_checkpoint(name, self.folders):
            return companion_files.reason_for_state(checkpoints)
        if name in self.together or self.whole:
            return companion_files.reason(sorted({*self.together, *self.whole} - {name}))
        return companion_files.reason_for_group(self.of_folders[name]) if name in self.of_folders else None


def _take_folder(seen: Scan, visited: ExternalFolder, path: str, entry: Entry, is_checkpoint: bool) -> None:
    if not is_checkpoint:
        seen.folders.append(entry.name)
        return
    naming.checkpoint_name(entry.name)
    if _holds_several(visited, joined(path, entry.name)):
        raise NotAdoptable(
            "its files tell several epochs or steps: it is not one checkpoint, nor a folder of them by its name"
        )
    external = ExternalCheckpoint(entry.name, True, tuple(_files(visited, path, entry)))
    for file, size_bytes, _ in external.files:
        if size_bytes and file.lower().endswith((*SUFFIXES, *companion_files.OTHER_FORMATS)):
            _refuse_text(visited, joined(path, entry.name, file), file)
    seen.checkpoints.append(external)


def _refuse_other_content(visited: ExternalFolder, where: str, entry: Entry) -> None:
    with closing(visited.open(where)) as opened:
        if fault := weight_formats.fault(opened.read, entry.size_bytes, entry.name):
            raise NotAdoptable(fault)


def _is_certain(visited: ExternalFolder, where: str, entry: Entry) -> bool:
    """Tell if a file is certainly one of weights, although its name does not tell."""
    if entry.what != "file" or not entry.name.lower().endswith(companion_files.OTHER_FORMATS):
        return False
    with closing(visited.open(where)) as opened:
        return weight_formats.is_certain(opened.read, entry.name)


def _refuse_text(visited: ExternalFolder, where: str, file: str) -> None:
    """Refuse text or a web page in the place of weights; a folder may hold weights in any format."""
    with closing(visited.open(where)) as opened:
        if fault := weight_formats.fault_of_text(opened.read(0, weight_formats.HEAD_BYTES)):
            raise NotAdoptable(f"{file} in it is no file of weights: {fault}")


def _leave_other(seen: Scan, visited: ExternalFolder, where: str, name: str, together: Collection[str]) -> None:
    """Skip a loose part of a checkpoint, or weights in a format that is not adopted."""
    if len(together) > 1 and name in together:
        why = companion_files.reason(companion_files.beside(name, [], together))
    elif name.lower().endswith(companion_files.OTHER_FORMATS):
        why = "it may be weights, in a format that is only adopted as part of a folder"
    else:
        seen.others += 1
        return
    seen.skipped.append(Skipped(printable_path(visited, where), why, True))


def _refuse_part(together: Collection[str]) -> None:
    if together:
        raise NotAdoptable(companion_files.reason(together))


def _is_whole(visited: ExternalFolder, where: str) -> bool:
    """Tell if the contents of a folder make it one checkpoint, and it holds no other ones."""
    entries = visited.entries(where)
    names = [entry.name for entry in entries]
    if not companion_files.parts(names):
        return False
    inner = any(entry.what == "folder" and looks_like_checkpoint(entry.name, is_folder=True) for entry in entries)
    return not inner and not _holds_several(visited, where)


def _holds_weights(visited: ExternalFolder, where: str) -> bool:
    """Tell if any file in a folder or below looks like weights."""
    entries = visited.entries(where)
    is_found = any(entry.name.lower().endswith((*SUFFIXES, *companion_files.OTHER_FORMATS)) for entry in entries)
    return is_found or any(
        entry.what == "folder" and _holds_weights(visited, joined(where, entry.name)) for entry in entries
    )


def _holds_several(visited: ExternalFolder, where: str) -> bool:
    """Tell if the files of a folder name different epochs or steps."""
    files = [
        e.name for e in visited.entries(where) if e.what == "file" and looks_like_checkpoint(e.name, is_folder=False)
    ]
    found = {(said.epoch, said.step) for said in (facts_in_name(name, is_folder=False) for name in files)}
    return len(found - {(None, None)}) > 1


def external_at(visited: ExternalFolder, path: str, name: str) -> ExternalCheckpoint | None:
    """Read the entry of a name as a checkpoint; None if there is no such entry, `Refusal` if it cannot be one."""
    entry = visited.entry(joined(path, name))
    if entry is None:
        return None
    if entry.what in {"link", "other"}:
        raise NotAdoptable(f"{joined(path, name)} exists and is neither a file nor a folder; nothing is overwritten")
    return ExternalCheckpoint(name, entry.what == "folder", tuple(_files(visited, path, entry)))


def joined(*paths: str) -> str:
    """Join paths, without the empty ones."""
    return "/".join(path for path in paths if path)


def printable_path(visited: ExternalFolder, path: str) -> str:
    """Make a printable path: below the root relative to it, else absolute; escaped for terminals."""
    whole = joined(visited.within if visited.within is not None else visited.address, path) or "."
    return escaped(whole)


class NotAdoptable(ForeignFile):
    """The entry cannot be adopted; the message says why."""


def _looks_like_checkpoint(entry: Entry) -> bool:
    if entry.what in {"file", "folder"}:
        return looks_like_checkpoint(entry.name, is_folder=entry.what == "folder")
    return any(looks_like_checkpoint(entry.name, is_folder=either) for either in (False, True))


def _refuse_unadoptable(entry: Entry, is_checkpoint: bool) -> None:
    if entry.name.startswith("."):
        raise NotAdoptable("it is hidden")
    if entry.what == "link":
        raise NotAdoptable("it is a link")
    if entry.what == "other":
        raise NotAdoptable("it is neither a file nor a folder")
    if is_checkpoint:
        naming.checkpoint_name(entry.name)
        if entry.what == "file" and entry.size_bytes == 0:
            raise NotAdoptable("it is empty")


def _files(visited: ExternalFolder, path: str, entry: Entry) -> Iterator[tuple[str, int, int]]:
    """List the files of a checkpoint with their sizes and modification times."""
    if entry.what == "file":
        yield _timed(entry.name, entry)
        return
    found = sorted(_within(visited, joined(path, entry.name), ""))
    if not found:
        raise NotAdoptable("it is an empty folder")
    yield from found


def _within(visited: ExternalFolder, folder: str, inner: str) -> Iterator[tuple[str, int, int]]:
    for entry in visited.entries(joined(folder, inner)):
        path = joined(inner, entry.name)
        naming.file_path(path)
        if entry.what == "folder":
            yield from _within(visited, folder, path)
        elif entry.what == "file":
            yield _timed(path, entry)
        else:
            raise NotAdoptable(f"{path!a} in it is a link, or neither a file nor a folder")


def _timed(path: str, entry: Entry) -> tuple[str, int, int]:
    if entry.mtime_ns < 0:
        raise NotAdoptable(f"{path} was last changed before 1970")
    return path, entry.size_bytes, entry.mtime_ns
