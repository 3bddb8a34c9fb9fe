"""The command ``holdfast``: what people and cron jobs do without a training script."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ._delivery import Outcome, deliver
from ._http import Server
from ._queue import Item, Queue
from ._spool import Spool, default_folder

DELIVERED, WAITING = 0, 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit status is 0 where nothing is left to be done, 1 where something is, 2 for a misuse."""
    parser = argparse.ArgumentParser(prog="holdfast", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser(
        "sync",
        help="deliver the checkpoints that wait on this machine",
        description="Deliver the checkpoints that wait on this machine for a server that was away. The status is 0 "
        "where none waits any more and none was refused, else 1.",
    )
    command.add_argument("--spool", type=Path, help="where they wait; default: HOLDFAST_SPOOL, else the user's own")
    command.add_argument("--server", metavar="URL", help="deliver to this server instead of the one they wait for")
    command.add_argument("--token", help="the server's token; default: HOLDFAST_TOKEN")
    command.add_argument("--list", action="store_true", help="only say what waits, and what was refused")
    command.add_argument("--retry-refused", action="store_true", help="also try again what was refused")
    command.add_argument("--patience", type=float, default=10.0, metavar="SECONDS", help="how long to try; default: 10")
    command.set_defaults(run=sync)
    options = parser.parse_args(arguments)
    return int(options.run(options))


def sync(options: argparse.Namespace) -> int:
    """Deliver what waits, queue by queue."""
    spool = Spool(options.spool.expanduser() if options.spool else default_folder())
    queues = spool.queues()
    if not queues:
        print(f"nothing waits in {spool.folder}")
        return DELIVERED
    for queue in queues:
        if options.retry_refused and not options.list:
            queue.unpark()
        _say(queue)
        if not options.list and queue.has_items():
            server = Server(options.server or queue.server, options.token)
            outcome = deliver(queue, server, patience_s=options.patience, progress=None, told=_told)
            _explain(queue, outcome)
    left = [queue for queue in queues if queue.has_items() or queue.parked()]
    return WAITING if left else DELIVERED


def _say(queue: Queue) -> None:
    waiting, refused = queue.items(), queue.parked()
    print(f"{queue.directory} for {queue.server}: {_checkpoints(waiting)} in {queue.folder}")
    for item in refused:
        print(f"  refused: {item.name or item.folder.name}, {queue.refusal(item)}")
        print(f"           it lies in {item.folder}")


def _checkpoints(items: Sequence[Item]) -> str:
    count, size_mib = len(items), sum(item.size_bytes for item in items) / 2**20
    return f"{count} checkpoint{'s' * (count != 1)} wait{'s' * (count == 1)}, {size_mib:,.1f} MiB,"


def _told(_: Item, what: str) -> None:
    print(f"  {what}")


def _explain(queue: Queue, outcome: Outcome) -> None:
    for item, error in outcome.parked:
        parked = replace(item, folder=queue.folder / "parked" / item.folder.name)
        print(f"  refused: {parked.name or item.save_id}, {error}", file=sys.stderr)
        print(f"           it lies in {parked.folder}", file=sys.stderr)
    if outcome.error is not None:
        print(f"  still waiting: {outcome.error}", file=sys.stderr)
    elif outcome.is_claimed_by_other:
        print("  another process is delivering these", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
