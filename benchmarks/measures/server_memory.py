"""Growth of the server's resident memory during four simultaneous uploads."""

import os
from typing import Any

from benchmarks import machine, process
from benchmarks.figures import Figure, Outcome, Skipped
from benchmarks.live import LiveServer
from benchmarks.plan import MIB, Plan
from benchmarks.saver import Savers

CLIENTS = 4
MAX_ROUNDS = 3
CLIENT_BYTES = 512 * MIB  # memory of a client beside its state


def measure(plan: Plan) -> Outcome:
    """Return the highest peak of all rounds above the resident memory after one save of the whole state."""
    refuse_without_memory(plan)
    with LiveServer(plan.folder / "root") as server, Savers(server, CLIENTS, plan.size_bytes) as savers:
        started = process.memory(server.process_id)
        savers.save(only=(0,))
        server.wait_until_freed()
        before = process.memory(server.process_id)
        rounds = [_round(server, savers) for _ in range(min(plan.rounds, MAX_ROUNDS))]
    growth = max(each["peak_bytes"] for each in rounds) - before.resident_bytes
    figure = Figure(
        name="server_memory",
        value=growth / MIB,
        unit="MiB",
        ours=(before.resident_bytes + growth) / MIB,
        measured_in="MiB",
        reach=128,
        aim=64,
        lower_is_better=True,
    )
    details = {"started_bytes": started.resident_bytes, "before_bytes": before.resident_bytes, "rounds": rounds}
    return Outcome(figures=(figure,), details=details)


def refuse_without_memory(plan: Plan) -> None:
    """Skip if the clients' states would not fit into memory."""
    needed = CLIENTS * (plan.size_bytes + CLIENT_BYTES)
    if machine.available_bytes() < needed:
        raise Skipped(f"{CLIENTS} clients need {needed // MIB} MiB of memory; a smaller --size-mib needs less")


def _round(server: LiveServer, savers: Savers) -> dict[str, Any]:
    os.sync()
    process.reset_peak(server.process_id)
    clients = savers.save()
    peak = process.memory(server.process_id).peak_bytes
    server.wait_until_freed()
    resident = process.memory(server.process_id).resident_bytes
    return {"peak_bytes": peak, "after_bytes": resident, "clients": clients}
