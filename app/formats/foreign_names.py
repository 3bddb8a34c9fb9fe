"""Names that other tools give their checkpoints: recognises them, and parses epoch, step and metric. Pure."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from app.core.models import Kind, Mode

SUFFIXES = (".pth.tar", ".pt.tar", ".pt", ".pth", ".ckpt", ".safetensors", ".weights.h5", ".keras", ".gguf")

_FOLDER = re.compile(r"(?:checkpoint[-_]|global_step|iter_)[0-9]+|.+\.ckpt")
_UNFINISHED = re.compile(r"tmp-checkpoint-[0-9]+|.+\.orbax-checkpoint-tmp(?:-[0-9]+)?")
"""Folders that Transformers and Orbax rename once they are complete."""
_BEST = re.compile(r"(?:.*[^a-z])?best(?:[^a-z].*)?", re.IGNORECASE)
_STEP_OF_FOLDER = re.compile(r"(?:checkpoint-|iter_|)([0-9]{1,18})")
_IGNITE = re.compile(
    r"(?:.+_)?(?:checkpoint_([0-9]{1,18})(?:_[A-Za-z_]+=[^=]+)?|[a-z]+_([0-9]{1,18})_[A-Za-z_]+=[^=]+)"
)
_NUMBER = r"[=_-]?([0-9]{1,18})(?![0-9a-z]|\.[0-9])"  # neither the beginning of 3.5 nor of 10k
_EPOCH = re.compile(r"(?<![^\W_])epoch" + _NUMBER, re.IGNORECASE)
_STEP = re.compile(r"(?<![^\W_])step" + _NUMBER, re.IGNORECASE)
_VALUE = re.compile(
    r"(?<![A-Za-z0-9])([A-Za-z][A-Za-z0-9]*(?:[_/.][A-Za-z][A-Za-z0-9]*)*)"
    r"=(-?[0-9]{1,18}(?:\.[0-9]{1,18})?(?:[eE][+-]?[0-9]{1,3})?)(?![0-9A-Za-z]|\.[0-9])"
)
_COUNTERS = {"epoch", "step", "global_step", "iter", "iteration", "epochs", "steps", "v", "version"}
_WORD = re.compile(r"[A-Za-z]+[0-9]*")
_LESS_IS_BETTER = re.compile(
    r"loss(?:es)?|err(?:ors?)?|ppl|perplexity|mse|mae|rmse|mape|nll|wer|cer|fid|kl|bce|bpb|bpc|eer|brier|divergence|regret"
)
_MORE_IS_BETTER = re.compile(
    r"acc|accuracy|top[0-9]+|auc|auroc|auprc|f[0-9]|fbeta|bleu[0-9]?|rouge[0-9l]?|rougelsum|meteor|map|ap|m?iou|dice|precision|recall"
    r"|r2|psnr|ssim|reward|score|ndcg|mrr|mcc|kappa|em|sensitivity|specificity|spearman|spearmanr|pearson|jaccard"
)


@dataclass(frozen=True, slots=True)
class ExternalCheckpoint:
    """A checkpoint of another tool: its files, each with path, size in bytes and time of last change in ns."""

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
class ExternalFacts:
    """Facts about an external checkpoint, from its name or from a record of its tool.

    ``values`` are measurements by name; ``metric`` names the one that ranks the checkpoint, if that is unambiguous.
    ``kind`` is ``best`` for a copy that its tool keeps because it was the best one so far.
    """

    epoch: int | None = None
    step: int | None = None
    values: Mapping[str, float] = field(default_factory=dict)
    metric: str | None = None
    kind: Kind = "regular"


def is_unfinished(name: str) -> bool:
    """Tell if tools give this name to a folder while they write a checkpoint to it."""
    return _UNFINISHED.fullmatch(name) is not None


def looks_like_checkpoint(name: str, *, is_folder: bool) -> bool:
    """Tell if training tools write checkpoints to files or folders with such a name."""
    if is_folder:
        return _FOLDER.fullmatch(name) is not None
    return name.lower().endswith(SUFFIXES)


def facts_in_name(name: str, *, is_folder: bool, parent: str = "") -> ExternalFacts:
    """Parse epoch, step and values in a name. Ambiguous numbers are ignored, never guessed.

    Parameters
    ----------
    parent : str
        The name of the folder above. It counts if it is the beginning of the name, as Lightning turns the metric
        ``val/acc`` into ``epoch=2-val/acc=0.91.ckpt``.
    """
    if is_folder and (found := _STEP_OF_FOLDER.fullmatch(name)):
        return ExternalFacts(step=int(found[1]))
    kind: Kind = "best" if _BEST.fullmatch(_without_suffix(name)) else "regular"
    stem = _without_suffix(f"{parent}/{name}" if "=" in parent else name)
    values = _values(stem)
    ranked = [key for key in values if direction(key) is not None]
    metric = ranked[0] if len(ranked) == 1 else None
    epoch, step = _only(_EPOCH.findall(stem)), _only(_STEP.findall(stem))
    if epoch is None and step is None and (found := _IGNITE.fullmatch(stem)):
        step = int(found[1] or found[2])
    return ExternalFacts(epoch, step, values, metric, kind)


def direction(name: str) -> Mode | None:
    """Return the mode of a metric by the words of its name; None if they are unknown or disagree."""
    words = [word.lower() for word in _WORD.findall(name)]
    less, more = (any(map(kind.fullmatch, words)) for kind in (_LESS_IS_BETTER, _MORE_IS_BETTER))
    return None if less == more else "min" if less else "max"


def in_order(
    externals: Iterable[ExternalCheckpoint], said: Mapping[str, ExternalFacts] | None = None
) -> list[ExternalCheckpoint]:
    """Sort oldest first: by step if all have one, else by epoch if all have one, else by time and name.

    ``said`` is the facts of each by name; by default those in the name.
    """
    found = list(externals)
    known = said if said is not None else {s.name: facts_in_name(s.name, is_folder=s.is_folder) for s in found}
    for fact in ("step", "epoch"):
        numbers = {s.name: getattr(known[s.name], fact) for s in found}
        if None not in numbers.values():
            return sorted(found, key=lambda s: (numbers[s.name], s.mtime_ns, s.name))
    return sorted(found, key=lambda s: (s.mtime_ns, s.name))


def _without_suffix(name: str) -> str:
    for suffix in SUFFIXES:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name


def _values(stem: str) -> dict[str, float]:
    """Parse each ``name=number``, without counters of epochs and steps; drop names with contradictory numbers."""
    found: dict[str, set[float]] = {}
    for key, text in _VALUE.findall(stem):
        number = float(text)
        if key.lower() not in _COUNTERS and math.isfinite(number):
            found.setdefault(key, set()).add(number)
    return {key: numbers.pop() for key, numbers in found.items() if len(numbers) == 1}


def _only(numbers: Sequence[str]) -> int | None:
    """Return the number if all agree, else None."""
    found = {int(number) for number in numbers}
    return found.pop() if len(found) == 1 else None
