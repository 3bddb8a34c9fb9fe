"""What the names that other tools give their checkpoints tell: which are checkpoints, of which epoch and step. Pure."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

SUFFIXES = (".pt", ".pth", ".ckpt", ".safetensors")

_FOLDER = re.compile(r"(?:checkpoint-|global_step)[0-9]+")
_STEP_OF_FOLDER = re.compile(r"checkpoint-([0-9]{1,18})")
_NUMBER = r"[=_-]?([0-9]{1,18})(?![0-9a-z]|\.[0-9])"  # neither the beginning of 3.5 nor of 10k
_EPOCH = re.compile(r"(?<![^\W_])epoch" + _NUMBER, re.IGNORECASE)
_STEP = re.compile(r"(?<![^\W_])step" + _NUMBER, re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Stranger:
    """A checkpoint that another tool wrote: its files, each with its size and its time of last change in ns."""

    name: str
    is_folder: bool
    files: tuple[tuple[str, int, int], ...]

    @property
    def mtime_ns(self) -> int:
        return max(mtime_ns for _, _, mtime_ns in self.files)

    @property
    def size_bytes(self) -> int:
        return sum(size_bytes for _, size_bytes, _ in self.files)


@dataclass(frozen=True, slots=True)
class Told:
    """What a name tells."""

    epoch: int | None = None
    step: int | None = None


def looks_like_checkpoint(name: str, *, is_folder: bool) -> bool:
    """Whether a file or a folder of this name is what training tools write checkpoints to."""
    if is_folder:
        return _FOLDER.fullmatch(name) is not None
    return name.lower().endswith(SUFFIXES)


def told(name: str, *, is_folder: bool) -> Told:
    """The epoch and the step in a name, where it says plainly which number is which; never a guess."""
    if is_folder and (found := _STEP_OF_FOLDER.fullmatch(name)):
        return Told(step=int(found[1]))
    stem = name if is_folder else _without_suffix(name)
    return Told(_only(_EPOCH.findall(stem)), _only(_STEP.findall(stem)))


def in_order(strangers: Iterable[Stranger]) -> list[Stranger]:
    """Oldest first: by step if every name tells one, else by epoch if every name does, else by time and name."""
    found = list(strangers)
    for fact in ("step", "epoch"):
        numbers = {s.name: getattr(told(s.name, is_folder=s.is_folder), fact) for s in found}
        if None not in numbers.values():
            return sorted(found, key=lambda s: (numbers[s.name], s.mtime_ns, s.name))
    return sorted(found, key=lambda s: (s.mtime_ns, s.name))


def _without_suffix(name: str) -> str:
    for suffix in SUFFIXES:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name


def _only(numbers: Sequence[str]) -> int | None:
    """The number, unless there are several different ones."""
    found = {int(number) for number in numbers}
    return found.pop() if len(found) == 1 else None
