"""The commands `reindex`, `adopt`, `fsck` and `compact`, for a root that no server has open.

Each prints text or one JSON document and returns an exit status for scripts.
"""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict

from app.bootstrap import command_line_actor, inspect_root, open_root, open_root_with_report, reindex_root, require_root
from app.catalog import CatalogError
from app.cli.terminal import Progress, bar, is_terminal, say
from app.core.errors import Refusal
from app.core.units import MAX_DURATION_S, size
from app.runtime import actor
from app.service import Context
from app.service.maintenance import adopt as adopting
from app.service.maintenance.adopt import Adopted
from app.service.maintenance.adopt_facts import Ranking
from app.service.maintenance.adopt_scan import Skipped
from app.service.maintenance.fsck import Fsck
from app.service.maintenance.fsck_repair import Fault
from app.settings import Settings

PASSING_S = 1.0  # longer than a running server takes for a change, so that its transient faults are gone
LEFT_ALONE = 3
"""The status of `adopt` if not everything was taken in."""


def reindex(settings: Settings, *, as_json: bool = False) -> int:
    """Rebuild the catalog from the files; return 1 if a record is corrupt or a checkpoint is lost."""
    read = 0

    def note(count: int) -> None:
        nonlocal read
        read = count

    with bar(lambda: Progress("reading manifests", read, None, _count(read))):
        rebuilt = reindex_root(_keeping_the_trash(settings), read=note)
    if as_json:
        _print_json(asdict(rebuilt))
        return 1 if rebuilt.faults else 0
    for fault in rebuilt.faults:
        print(f"left alone: {fault}", file=sys.stderr)
    for remark in rebuilt.remarks:
        print(f"taken in, but {remark}", file=sys.stderr)
    removed = f", and {_count(rebuilt.removed)} in the trash, to be restored or purged" if rebuilt.removed else ""
    print(f"{_count(rebuilt.checkpoints)} in {_count(rebuilt.directories, 'directory', 'directories')}{removed}")
    return 1 if rebuilt.faults else 0


def compact(settings: Settings, *, as_json: bool = False) -> int:
    """Give the unused space of the catalog back to the disk; return 0."""
    require_root(settings)
    with closing(open_root(_keeping_the_trash(settings), closely=False)) as service:
        before, after = service.context.catalog.compact()
    if as_json:
        _print_json({"bytes_before": before, "bytes_after": after})
    else:
        print(f"The catalog takes {size(after)}; before, it took {size(before)}")
    return 0


def fsck(settings: Settings, dry_run: bool, *, as_json: bool = False) -> int:
    """Compare files, manifests and catalog, read every byte back, and repair what can be repaired safely.

    Returns 0 if there is no fault, 1 if all were repaired, 4 if some remain.
    """
    check, outcomes = _check(settings) if dry_run else _repair(settings)
    remain = sum(1 for _, outcome in outcomes if outcome != "repaired")
    if as_json:
        _print_json(
            {
                "checkpoints": check.checkpoints,
                "bytes_read": check.bytes_read,
                "repaired": len(outcomes) - remain,
                "remaining": remain,
                "faults": [_fault(fault, outcome) for fault, outcome in outcomes],
            }
        )
    else:
        _print_faults(check, outcomes, remain)
    return 4 if remain else 1 if outcomes else 0


def _print_faults(check: Fsck, outcomes: list[tuple[Fault, str]], remain: int) -> None:
    for fault, outcome in outcomes:
        style = "green" if outcome == "repaired" else "yellow" if fault.repair else "red"
        told = str(fault).removeprefix(fault.kind)
        say((fault.kind, f"bold {style}"), told, *([(f" ({outcome})", style)] if outcome else []))
    repaired = f"{_count(len(outcomes), 'fault', 'faults')}, {len(outcomes) - remain} repaired"
    found = (repaired, "bold red" if remain else "bold yellow") if outcomes else ("all is well", "bold green")
    say(f"{_count(check.checkpoints)}, {check.bytes_read} bytes read: ", found)


def _fault(fault: Fault, outcome: str) -> dict[str, str | None]:
    """Convert a fault for JSON. In an outcome, the text after the first colon is the reason."""
    kind, _, reason = outcome.partition(": ")
    return {
        "kind": fault.kind,
        "directory": fault.directory,
        "name": fault.name,
        "where": fault.where,
        "what": fault.text,
        "outcome": kind.replace(" ", "_") or "left",
        "reason": reason or None,
    }


def _check(settings: Settings) -> tuple[Fsck, list[tuple[Fault, str]]]:
    """Check a root that a server may be changing: only faults that a second check finds again count."""
    context = inspect_root(settings)
    try:
        check = Fsck(context, _token_file(settings))
        with _reading_back(context, check):
            faults = check.run()
        if faults:
            with _reading_back(context, check, "reading again"):
                faults = _still_there(faults, check.run())
        if any(fault.is_passing for fault in faults):
            time.sleep(PASSING_S)
            with _reading_back(context, check, "and again"):
                faults = _still_there(faults, check.run())
    finally:
        context.catalog.close()
        context.storage.close()
    return check, [(fault, "would be repaired" if fault.repair else "") for fault in faults]


def _still_there(before: list[Fault], now: list[Fault]) -> list[Fault]:
    return [fault for fault in now if any(fault.is_same(other) for other in before)]


def _repair(settings: Settings) -> tuple[Fsck, list[tuple[Fault, str]]]:
    require_root(settings)
    service, rebuilt = open_root_with_report(_keeping_the_trash(settings), closely=False)
    try:
        check = Fsck(service.context, _token_file(settings))
        with actor.acting(command_line_actor()):
            with _reading_back(service.context, check):
                faults = check.run()
            before = [(Fault("catalog", "the catalog", rebuilt.why), "repaired")] if rebuilt is not None else []
            return check, [*before, *check.repaired(faults)]
    finally:
        service.close()


@contextmanager
def _reading_back(context: Context, check: Fsck, what: str = "reading back") -> Iterator[None]:
    """Show a progress bar of the bytes that a check has read, of those of live checkpoints."""
    total: int | None = None
    if is_terminal(sys.stderr):
        with suppress(CatalogError, Refusal), context.catalog.reading() as session:  # the check reports it
            total = session.counters.usage("").size_bytes

    def look() -> Progress:
        done = check.bytes_read
        return Progress(what, done, total, f"{_count(check.checkpoints)}, {size(done)}")

    with bar(look):
        yield


def _token_file(settings: Settings) -> list[str]:
    """Return the path of the token file if it is within the root."""
    if settings.admin_token_file is None:
        return []
    file, root = settings.admin_token_file.resolve(), settings.root.resolve()
    return [file.relative_to(root).as_posix()] if file.is_relative_to(root) else []


def _keeping_the_trash(settings: Settings) -> Settings:
    """Set an endless undo window: only the server knows its own, so no command empties the trash."""
    return settings.model_copy(update={"undo_window": MAX_DURATION_S})


def adopt(
    settings: Settings,
    folder: str,
    name: str | None,
    dry_run: bool,
    *,
    ranking: Ranking | None = None,
    as_json: bool = False,
) -> int:
    """Adopt checkpoints of other tools; return 3 if a part of one was left alone, or nothing was found."""
    service = open_root(_keeping_the_trash(settings))
    taken: list[Adopted] = []
    left: list[Skipped] = []
    with closing(service), actor.acting(command_line_actor()):
        reading = _Reading(service.context, folder, name)
        with bar(reading.look):
            found = adopting.adopt(
                service.context, folder, name, dry_run=dry_run, ranking=ranking, read=reading.advance
            )
            for told in found:
                if isinstance(told, Skipped):
                    left.append(told)
                else:
                    taken.append(told)
                if not as_json:
                    _print_adopted(told, "would be taken in" if dry_run else "taken in")
    missed = sum(one.is_missed for one in left)
    total = {
        "taken": sum(one.taken for one in taken),
        "known": sum(one.known for one in taken),
        "size_bytes": sum(one.size_bytes for one in taken),
    }
    if as_json:
        directories = [asdict(one) for one in taken]
        _print_json({"dry_run": dry_run, **total, "directories": directories, "left": [asdict(one) for one in left]})
    else:
        where = _count(sum(one.taken > 0 for one in taken), "directory", "directories")
        verb = "would be taken in" if dry_run else "taken in"
        print(f"In all: {_count(total['taken'])} {verb} ({where}), {total['known']} known before, {missed} left alone")
        if not total["taken"] + total["known"] + missed:
            say((f"{folder} contains nothing that looks like a checkpoint", "bold yellow"))
    return LEFT_ALONE if missed or not total["taken"] + total["known"] else 0


def _print_adopted(one: Adopted | Skipped, verb: str) -> None:
    if isinstance(one, Skipped):
        print(f"left alone: {one.where}: {one.why}", file=sys.stderr)
        return
    others = (
        f", {_count(one.others, 'other file', 'other files')} left as {'it is' if one.others == 1 else 'they are'}"
        if one.others
        else ""
    )
    print(f"{one.directory}: {_count(one.taken)} {verb} ({size(one.size_bytes)}), {one.known} known before{others}")
    for name in one.checkpoints:
        print(f"  {name}")


class _Reading:
    """Progress of an adoption. For the bar only, a dry run finds the total first."""

    def __init__(self, context: Context, folder: str, name: str | None) -> None:
        self._count = self._bytes = 0
        self._total: int | None = None
        if is_terminal(sys.stderr):
            looked = adopting.adopt(context, folder, name, dry_run=True)
            self._total = sum(told.size_bytes for told in looked if isinstance(told, Adopted))

    def advance(self, size_bytes: int) -> None:
        self._count += 1
        self._bytes += size_bytes

    def look(self) -> Progress:
        return Progress("taking in", self._bytes, self._total, f"{_count(self._count)}, {size(self._bytes)}")


def _print_json(document: object) -> None:
    print(json.dumps(document, indent=2))


def _count(number: int, one: str = "checkpoint", several: str = "checkpoints") -> str:
    return f"{number} {one if number == 1 else several}"
