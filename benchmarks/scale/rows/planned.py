"""The rows to make: of each directory, its saves in order, and those that are still live. Pure."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import cycle
from typing import NamedTuple

STEP_S = 30
"""The time between two saves, in seconds."""
ID_BITS_IN_ORDER = 5
AT_A_TIME = 200
REMOVED_AFTER = timedelta(seconds=90)


@dataclass(frozen=True, slots=True)
class Target:
    """A directory to fill.

    Parameters
    ----------
    saves, live : int
        The number of saves to add, and of those that are not removed: the latest ones, and one that was best.
    template : str
        The directory whose row and checkpoints are the pattern.
    """

    directory: str
    saves: int
    live: int
    template: str


class Templates(NamedTuple):
    """The ids of checkpoints of a directory that a server has written, to take rows from."""

    live: Sequence[str]
    removed: Sequence[str]


class PlannedRow(NamedTuple):
    """The values of one save that differ from those of its template."""

    id: str
    template: str
    directory: str
    number: int
    name: str
    save_id: str
    epoch: int
    metric: float
    grown_bytes: int
    created_at: str
    removed_at: str


COLUMNS = PlannedRow._fields


def planned_rows(
    targets: Sequence[Target], templates: dict[str, Templates], *, now: datetime | None = None
) -> Iterator[PlannedRow]:
    """Yield the rows in the order in which saves would have made them."""
    now = now or datetime.now(UTC)
    total = sum(target.saves for target in targets)
    start = now - timedelta(seconds=STEP_S * (total + 10))
    chance = random.Random(total)
    live = {name: cycle(found.live) for name, found in templates.items()}
    removed = {name: cycle(found.removed) for name, found in templates.items()}
    for made, (target, number) in enumerate(_in_order(targets)):
        pool = live if _stays(number, target) else removed
        at = start + timedelta(seconds=STEP_S * made)
        ids = [_id(made / total, chance) for _ in range(2)]
        yield _row(target, number, next(pool[target.template]), at, chance.random(), *ids)


def _in_order(targets: Sequence[Target]) -> Iterator[tuple[Target, int]]:
    """Yield all saves; so many directories at a time are saved to, in turns."""
    for first in range(0, len(targets), AT_A_TIME):
        running = targets[first : first + AT_A_TIME]
        for number in range(max(target.saves for target in running)):
            for target in running:
                if number < target.saves:
                    yield target, number


def _row(
    target: Target, number: int, template: str, at: datetime, chance: float, checkpoint_id: str, save_id: str
) -> PlannedRow:
    is_best = number == target.saves // 2
    return PlannedRow(
        id=checkpoint_id,
        template=template,
        directory=target.directory,
        number=number,
        name=f"checkpoint_epoch_{number:07}.pt",
        save_id=save_id,
        epoch=number,
        metric=0.001 if is_best else 0.01 + chance,
        grown_bytes=int(chance * 4096),
        created_at=_text(at),
        removed_at=_text(at + REMOVED_AFTER),
    )


def _id(progress: float, chance: random.Random) -> str:
    """Return a random id whose first bits grow with the rows.

    With ids that are random throughout, each row would change pages all over the indexes: more than memory can hold.
    """
    bits = 128 - ID_BITS_IN_ORDER
    return f"{int(progress * 2**ID_BITS_IN_ORDER) << bits | chance.getrandbits(bits):032x}"


def _stays(number: int, target: Target) -> bool:
    if target.live >= target.saves:
        return True
    return number >= target.saves - (target.live - 1) or number == target.saves // 2


def _text(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
