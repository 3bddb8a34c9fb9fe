"""Groups of names that belong together: parts by rank, shard or layer, and files of one step by their role. Pure."""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping

from app.formats.foreign_names import SUFFIXES

_SIDES = (*SUFFIXES, ".bin", ".pkl", ".npz", ".opt", ".optim", ".json", ".yaml", ".yml")
_AXES = "rank|shard|part|slice|piece|chunk|proc|process|worker|node|host|gpu|device|tp|pp|dp|mp|layer|block|expert"
_AXES_OF_FOLDERS = "rank|shard|tp|pp|mp"
_COUNTED = "epoch|ep|step|iter|iteration|fold|trial|seed|run|round|cycle"
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+")
_MAIN = re.compile(
    "models?|net|network|weights?|params|states?|dict|checkpoint|ckpt|module|global|epoch|ep|steps?|iter|iteration"
)
"""Words for the model, or before a number; they indicate no role."""
_OF_TRAINING = {
    "optimizer": "opt optim optims optimizer optimizers optimiser",
    "scheduler": "sched scheduler schedulers",
    "scaler": "scaler amp",
    "rng": "rng rngs",
    "sampler": "sampler dataloader",
    "trainer": "trainer",
}
_OF_NETWORKS = {
    "generator": "g gen generator",
    "discriminator": "d disc discriminator",
    **{
        name: name
        for name in ("ema", "meta", "actor", "critic", "encoder", "decoder", "backbone", "head", "policy", "target")
    },
}
_ROLES = {word: role for role, words in (_OF_TRAINING | _OF_NETWORKS).items() for word in words.split()}
_ONLY_WITH = {"lr": {"scheduler"}, "grad": {"scaler"}}
_WITH_STATE = {"train": "trainer", "training": "trainer", "random": "rng"}
_MAIN_ROLE = "model"


def of_files(names: Collection[str]) -> dict[str, set[str]]:
    """Return the files that belong to others by their names, each with those others."""
    return _with_others([*_numbered(names, _AXES), *_of_one_step(names)])


def of_folders(names: Collection[str]) -> dict[str, set[str]]:
    """Return the folders that belong to others by their names: those of ranks, and a model's beside its optimizer's."""
    roles = [group for group in _of_one_step(names, is_folder=True) if _roles(group) & _OF_TRAINING.keys()]
    return _with_others([*_numbered(names, _AXES_OF_FOLDERS), *roles])


def _with_others(groups: Iterable[Collection[str]]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for group in groups:
        for name in group:
            found[name] |= set(group) - {name}
    return dict(found)


def _numbered(names: Collection[str], axes: str) -> list[list[str]]:
    """Group names that differ only in the number of a part, as ``rank0`` and ``rank1``, or ``0_of_2`` and ``1_of_2``.

    Numbers without 0 or 1 and without neighbours are not parts: ``lora_rank_8`` and ``lora_rank_16``.
    """
    part = re.compile(
        rf"(?<![A-Za-z])(?:{axes})[_.-]?([0-9]+)(?![A-Za-z0-9])"
        rf"|(?<![0-9])([0-9]+)[_-]?of[_-]?[0-9]+(?![0-9])",
        re.IGNORECASE,
    )
    groups: dict[str, dict[str, tuple[int, ...]]] = defaultdict(dict)
    for name in names:
        if numbers := tuple(int(first or second) for first, second in part.findall(_without_counts(name))):
            groups[part.sub(lambda found: re.sub("[0-9]+", "#", found[0]), _without_counts(name))][name] = numbers
    of_first = re.compile(rf"[_.-]?(?:{part.pattern})", re.IGNORECASE)
    pairs = [
        [name, first]  # the first rank may have no number
        for group in groups.values()
        for name, numbers in group.items()
        if (first := of_first.sub("", name)) in names and set(numbers) <= {0, 1}
    ]
    return pairs + [list(group) for group in groups.values() if len(group) > 1 and _are_parts(group)]


def _without_counts(name: str) -> str:
    """Shorten ``epoch_3_of_10`` to ``epoch_3``, as the progress of a run is not a part."""
    return re.sub(rf"(?<![A-Za-z])((?:{_COUNTED})[_-]?[0-9]+)[_-]?of[_-]?[0-9]+", r"\1", name, flags=re.IGNORECASE)


def _are_parts(group: Mapping[str, tuple[int, ...]]) -> bool:
    for numbers in map(set, zip(*group.values(), strict=False)):
        if len(numbers) > 1 and (numbers & {0, 1} or max(numbers) - min(numbers) < len(numbers)):
            return True
    return False


def _of_one_step(names: Collection[str], *, is_folder: bool = False) -> list[list[str]]:
    """Group names that differ only in the role: ``epoch1`` and ``epoch1.optim``, ``netG_5`` and ``netD_5``."""
    groups: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for name in names:
        if is_folder or name.lower().endswith(_SIDES):
            groups[_split(name)[1]].append(name)
    found = []
    for group in groups.values():
        kinds = {frozenset(_split(name)[0]) for name in group}
        is_file = is_folder or any(name.lower().endswith(SUFFIXES) for name in group)
        if is_file and len(kinds) > 1 and _is_sure(group):
            found.append(group)
    return found


def _is_sure(group: Collection[str]) -> bool:
    """Tell if a group is unambiguous: G and D are roles only together, and JSON belongs only beside a role."""
    if not all(_split(name)[0] - {_MAIN_ROLE} or name.lower().endswith(SUFFIXES) or "." not in name for name in group):
        return False
    roles = _roles(group) - {_MAIN_ROLE}
    letters = {word for name in group for word in _words(name) if word in {"g", "d"}}
    return len(letters) != 1 or len(roles) > 1


def _roles(group: Iterable[str]) -> set[str]:
    return {role for name in group for role in _split(name)[0]}


def _split(name: str) -> tuple[set[str], tuple[str, ...]]:
    """Split a name into its roles and its other words."""
    words = _words(name)
    roles, rest = set(), []
    has_state = bool({"state", "states"} & set(words))
    for word in words:
        if word in _ROLES:
            roles.add(_ROLES[word])
        elif has_state and word in _WITH_STATE:
            roles.add(_WITH_STATE[word])
        elif not _MAIN.fullmatch(word):
            rest.append(word)
    rest = [word for word in rest if not _ONLY_WITH.get(word, set()) & roles]
    return roles or {_MAIN_ROLE}, tuple(rest)


def _words(name: str) -> list[str]:
    """Return the words and numbers of a name without its suffix, in lower case."""
    suffix = next((suffix for suffix in _SIDES if name.lower().endswith(suffix)), "")
    stem = name[: len(name) - len(suffix)] + (suffix if suffix in {".opt", ".optim"} else "")
    return [word.lower().lstrip("0") or "0" for word in _WORDS.findall(stem)]
