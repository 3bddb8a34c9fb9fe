"""Long runs of the past with realistic losses, written directly into the catalog."""

import math
import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from app.core import retention
from app.core.models import Checkpoint, Chunk, Directory, Facts, File, FileMap, Manifest, Policy

_POLICY = Policy("min", 3, 3, 25)


@dataclass(frozen=True)
class Past:
    """A past run: its losses, decay, checkpoint size, age and policy."""

    name: str
    epochs: int
    first: float
    floor: float
    pace: float
    size_mb: float
    ended_h: float
    policy: Policy = _POLICY


PAST = [
    Past("language/gpt-small/lr-1e-3", 60, 9.8, 3.62, 7, 497.8, 50),
    Past("language/gpt-small/lr-3e-4", 120, 10.1, 3.31, 14, 497.8, 20),
    Past("language/gpt-small/lr-3e-4-warm", 96, 10.0, 3.27, 11, 497.8, 3),
    Past("language/gpt-small/lr-1e-4", 120, 10.3, 3.74, 26, 497.8, 27),
    Past("speech/conformer/baseline", 80, 4.1, 0.61, 12, 121.4, 130, Policy("min", 5, 5)),
    Past("speech/conformer/spec-augment", 80, 4.3, 0.48, 15, 121.4, 101, Policy("min", 5, 5)),
    Past("vision/resnet-50/cutmix", 90, 6.9, 1.42, 17, 205.1, 8, Policy("min", 3, 3, 10)),
    Past("vision/resnet-50/baseline", 90, 6.9, 1.61, 13, 205.1, 77, Policy("min", 3, 3, 10)),
]


def fill_all(context):
    """Write all past runs into a new root."""
    for run in PAST:
        fill(context, run)


def fill(context, run):
    """Write a past run into its directory, without files: no test reads them."""
    chance = random.Random(run.name)
    kept = [_made(run, epoch, chance) for epoch in range(run.epochs)]
    put(context, kept, run.policy)


def put(context, checkpoints, policy):
    """Write checkpoints into a directory and apply its policy after each."""
    first, last = checkpoints[0], checkpoints[-1]
    directory = Directory(last.directory, first.created_at, last.sequence, policy, "trainer@gpu-07", last.created_at)
    with context.catalog.writing() as session:
        session.directories.put(directory)
        session.checkpoints.add(*(Manifest(each, {file.path: _MAP for file in each.files}) for each in checkpoints))
        live = []
        for saved in checkpoints:
            verdicts = retention.judge([*live, saved], policy)
            live = [verdict.checkpoint for verdict in verdicts if verdict.stays]
            for gone in (verdict.checkpoint for verdict in verdicts if not verdict.stays):
                session.checkpoints.mark_removed(gone, "pruned", saved.created_at)
                session.checkpoints.mark_trashed(gone.id)
                session.checkpoints.mark_freed(gone.id)


_MAP = FileMap((Chunk(1, "0" * 64),))


def _made(run, epoch, chance):
    loss = run.floor + (run.first - run.floor) * math.exp(-epoch / run.pace) + chance.gauss(0, 0.004 * run.first)
    facts = Facts(
        epoch=epoch,
        metric=round(loss, 4),
        pinned=epoch == 40,
        tags=("release",) if epoch == 40 else (),
        metadata={"loss": round(loss, 4), "learning_rate": round(1e-3 * math.cos(epoch / run.epochs * 1.5), 6)},
    )
    name = f"checkpoint_epoch_{epoch:04d}.pt"
    at = datetime.now(UTC) - timedelta(hours=run.ended_h, minutes=11 * (run.epochs - epoch))
    return Checkpoint(
        id=f"{chance.getrandbits(128):032x}",
        directory=run.name,
        name=name,
        save_id=f"save-{epoch}",
        sequence=epoch + 1,
        saved_after=epoch,
        facts=facts,
        files=(File(name, int(run.size_mb * 1e6), f"{chance.getrandbits(256):064x}", "0"),),
        digest=f"{chance.getrandbits(256):064x}",
        created_at=at,
    )
