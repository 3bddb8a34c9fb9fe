"""A durable save of which a tenth of the tensors has changed, against ``torch.save`` and fsync of all of it.

The changed tensors are spread out: every tenth, different ones in each round.
"""

from itertools import count

from benchmarks import machine, states
from benchmarks.figures import Outcome, faster
from benchmarks.measures.save import saves
from benchmarks.plan import MIB, Plan
from benchmarks.xfs import mounted_xfs

TENSORS = 100
CHANGED_ONE_IN = 10
XFS_SPARE_BYTES = 512 * MIB


def measure_on_xfs(plan: Plan) -> Outcome:
    """Return the speed relative to the local disk, where files can share blocks."""
    with mounted_xfs(plan.folder, 6 * plan.size_bytes + XFS_SPARE_BYTES) as folder:
        return _measure(Plan(folder, plan.peers, plan.rounds, plan.size_bytes), "delta_xfs", reach=2.5, aim=4.0)


def measure_on_the_disk(plan: Plan) -> Outcome:
    """Return the speed relative to the local disk, on the ordinary disk."""
    return _measure(plan, "delta_ext4", reach=0.9, aim=1.2)


def _measure(plan: Plan, name: str, *, reach: float, aim: float) -> Outcome:
    state = states.random_state(plan.size_bytes, tensors=TENSORS)
    tensors, turns = list(state.values()), count()

    def change() -> None:
        states.change(tensors[next(turns) % CHANGED_ONE_IN :: CHANGED_ONE_IN])

    spent = saves(plan.folder, plan.rounds, state, prepare=change)
    return Outcome(
        figures=(faster(name, spent["Holdfast"], spent["local"], reach=reach, aim=aim),),
        spent=spent,
        size_bytes=plan.size_bytes,
        details={"file_system": machine.file_system(plan.folder)},
        notes=(f"{name} was measured on {machine.file_system(plan.folder)}.",),
    )
