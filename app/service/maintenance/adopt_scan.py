"""What lies in a folder that other tools wrote into: checkpoints to take in, and what is left alone, with reasons."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field

from app.core import names as naming
from app.core.errors import ForeignFile, Refusal
from app.core.names import escaped
from app.formats import companion_files, name_groups, weight_formats
from app.formats.foreign_names import SUFFIXES, Stranger, looks_like_checkpoint, told
from app.storage.port import Entry, Visited

OWN = ".holdfast"


@dataclass(frozen=True, slots=True)
class Left:
    """Something that is left alone, and why; ``is_missed`` where it looks like a checkpoint."""

    where: str
    why: str
    is_missed: bool


@dataclass(slots=True)
class Seen:
    """What lies in one folder.

    ``folders`` are those to look into, ``known`` counts what is a checkpoint already, ``others`` files of other kinds.
    """

    strangers: list[Stranger] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    known: int = 0
    others: int = 0


def look(visited: Visited, path: str, known: Collection[str]) -> Seen:
    """What lies in a folder of those that are visited, of which some names are known as checkpoints."""
    seen = Seen()
    entries = visited.entries(path)
    around = _Around.of(visited, path, [entry for entry in entries if entry.name not in known])
    together = around.together
    for entry in entries:
        if entry.name in known:
            seen.known += 1
            continue
        where = joined(path, entry.name)
        if entry.name == OWN:
            if visited.within is None:
                seen.left.append(Left(shown(visited, where), "it is the record of another Holdfast", False))
            continue
        is_checkpoint = _looks_like_checkpoint(entry)
        try:
            _refuse_strange(entry, is_checkpoint)
            if entry.what == "folder":
                if not is_checkpoint and (why := around.why_a_part(entry.name)) and _holds_weights(visited, where):
                    is_checkpoint = True
                    raise Strange(why)
                _take_folder(seen, visited, path, entry, is_checkpoint or _is_whole(visited, where))
            elif is_checkpoint:
                _refuse_part(around.beside(entry.name))
                if entry.name in around.of_files:
                    raise Strange(companion_files.told_of_group(around.of_files[entry.name]))
                _refuse_other_content(visited, where, entry)
                seen.strangers.append(Stranger(entry.name, False, tuple(_files(visited, path, entry))))
            elif entry.name in together or entry.name.lower().endswith(companion_files.OTHER_FORMATS):
                _leave_other(seen, visited, where, entry.name, together)
            else:
                seen.others += 1
        except (Refusal, OSError) as error:
            seen.left.append(Left(shown(visited, where), str(error), is_checkpoint))
    return seen


@dataclass(frozen=True, slots=True)
class _Around:
    """The names in one folder, as far as they tell which of them belong together."""

    names: list[str]
    together: list[str]
    """The parts of one checkpoint by the names that their format gives them."""
    weights: list[str]
    of_a_model: list[str]
    of_files: Mapping[str, Collection[str]]
    of_folders: Mapping[str, Collection[str]]
    whole: list[str]
    """The sign that all of the folder is one checkpoint: its own name, or a file that lists its components."""

    @classmethod
    def of(cls, visited: Visited, path: str, entries: Collection[Entry]) -> "_Around":
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
            whole=whole,
        )

    def beside(self, name: str) -> list[str]:
        """The names that belong to one file of weights."""
        of_all = name in self.together or bool(self.whole)
        others = [*self.together, *self.weights] if of_all else self.together
        return companion_files.beside(name, self.names, [*others, *self.of_a_model])

    def why_a_part(self, name: str) -> str | None:
        """The reason that a folder that is not named as a checkpoint is a part of one; None if it is none."""
        if name in self.together or self.whole:
            return companion_files.told(sorted({*self.together, *self.whole} - {name}))
        return companion_files.told_of_group(self.of_folders[name]) if name in self.of_folders else None


def _take_folder(seen: Seen, visited: Visited, path: str, entry: Entry, is_checkpoint: bool) -> None:
    if not is_checkpoint:
        seen.folders.append(entry.name)
        return
    naming.checkpoint_name(entry.name)
    if _holds_several(visited, joined(path, entry.name)):
        raise Strange(
            "its files tell several epochs or steps: it is not one checkpoint, nor a folder of them by its name"
        )
    stranger = Stranger(entry.name, True, tuple(_files(visited, path, entry)))
    for file, size_bytes, _ in stranger.files:
        if size_bytes and file.lower().endswith((*SUFFIXES, *companion_files.OTHER_FORMATS)):
            _refuse_text(visited, joined(path, entry.name, file), file)
    seen.strangers.append(stranger)


def _refuse_other_content(visited: Visited, where: str, entry: Entry) -> None:
    with closing(visited.open(where)) as opened:
        if fault := weight_formats.fault(opened.read, entry.size_bytes):
            raise Strange(fault)


def _refuse_text(visited: Visited, where: str, file: str) -> None:
    """A folder may hold weights in any format, but no text or web page in their place."""
    with closing(visited.open(where)) as opened:
        if fault := weight_formats.fault_of_text(opened.read(0, weight_formats.HEAD_BYTES)):
            raise Strange(f"{file} in it is no file of weights: {fault}")


def _leave_other(seen: Seen, visited: Visited, where: str, name: str, together: Collection[str]) -> None:
    """Name what is not taken in: a loose part of a checkpoint, or weights in a format that is not."""
    if len(together) > 1 and name in together:
        why = companion_files.told(companion_files.beside(name, [], together))
    elif name.lower().endswith(companion_files.OTHER_FORMATS):
        why = "it may be weights, in a format that is only taken in as part of a folder"
    else:
        seen.others += 1
        return
    seen.left.append(Left(shown(visited, where), why, True))


def _refuse_part(together: Collection[str]) -> None:
    if together:
        raise Strange(companion_files.told(together))


def _is_whole(visited: Visited, where: str) -> bool:
    """Whether a folder is one checkpoint by what lies in it, and holds no other ones."""
    entries = visited.entries(where)
    names = [entry.name for entry in entries]
    if not companion_files.parts(names):
        return False
    inner = any(entry.what == "folder" and looks_like_checkpoint(entry.name, is_folder=True) for entry in entries)
    return not inner and not _holds_several(visited, where)


def _holds_weights(visited: Visited, where: str) -> bool:
    """Tell if anything in a folder or below looks like weights."""
    entries = visited.entries(where)
    is_found = any(entry.name.lower().endswith((*SUFFIXES, *companion_files.OTHER_FORMATS)) for entry in entries)
    return is_found or any(
        entry.what == "folder" and _holds_weights(visited, joined(where, entry.name)) for entry in entries
    )


def _holds_several(visited: Visited, where: str) -> bool:
    """Whether the files of a folder tell different epochs or steps."""
    files = [
        e.name for e in visited.entries(where) if e.what == "file" and looks_like_checkpoint(e.name, is_folder=False)
    ]
    found = {(said.epoch, said.step) for said in (told(name, is_folder=False) for name in files)}
    return len(found - {(None, None)}) > 1


def stranger_at(visited: Visited, path: str, name: str) -> Stranger | None:
    """What bears a name in a folder, as if it were a checkpoint; None for nothing. `Refusal` where it cannot be one."""
    entry = visited.entry(joined(path, name))
    if entry is None:
        return None
    if entry.what in {"link", "other"}:
        raise Strange(f"{joined(path, name)} exists and is neither a file nor a folder; nothing is overwritten")
    return Stranger(name, entry.what == "folder", tuple(_files(visited, path, entry)))


def joined(*paths: str) -> str:
    """Paths put together, those that are empty left out."""
    return "/".join(path for path in paths if path)


def shown(visited: Visited, path: str) -> str:
    """A path to print: below the root as the server knows it, else whole; nothing that upsets terminals."""
    whole = joined(visited.within if visited.within is not None else visited.address, path) or "."
    return escaped(whole)


class Strange(ForeignFile):
    """Something is not what is taken in."""


def _looks_like_checkpoint(entry: Entry) -> bool:
    if entry.what in {"file", "folder"}:
        return looks_like_checkpoint(entry.name, is_folder=entry.what == "folder")
    return any(looks_like_checkpoint(entry.name, is_folder=either) for either in (False, True))


def _refuse_strange(entry: Entry, is_checkpoint: bool) -> None:
    if entry.name.startswith("."):
        raise Strange("it is hidden")
    if entry.what == "link":
        raise Strange("it is a link")
    if entry.what == "other":
        raise Strange("it is neither a file nor a folder")
    if is_checkpoint:
        naming.checkpoint_name(entry.name)
        if entry.what == "file" and entry.size_bytes == 0:
            raise Strange("it is empty")


def _files(visited: Visited, path: str, entry: Entry) -> Iterator[tuple[str, int, int]]:
    """Every file of a checkpoint with its size and its time of last change."""
    if entry.what == "file":
        yield _timed(entry.name, entry)
        return
    found = sorted(_within(visited, joined(path, entry.name), ""))
    if not found:
        raise Strange("it is an empty folder")
    yield from found


def _within(visited: Visited, folder: str, inner: str) -> Iterator[tuple[str, int, int]]:
    for entry in visited.entries(joined(folder, inner)):
        path = joined(inner, entry.name)
        naming.file_path(path)
        if entry.what == "folder":
            yield from _within(visited, folder, path)
        elif entry.what == "file":
            yield _timed(path, entry)
        else:
            raise Strange(f"{path!a} in it is a link, or neither a file nor a folder")


def _timed(path: str, entry: Entry) -> tuple[str, int, int]:
    if entry.mtime_ns < 0:
        raise Strange(f"{path} was last changed before 1970")
    return path, entry.size_bytes, entry.mtime_ns
