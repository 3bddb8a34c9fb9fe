"""What an operator does to a root that no server has: rebuild its catalog, take in what others wrote, check it.

Each says in words what it did, and ends with a status that scripts can use.
"""

import sys
import time
from contextlib import closing

from app import actor
from app.checkpoints import adopting
from app.checkpoints.checking import Checking
from app.checkpoints.mending import Fault
from app.checkpoints.visiting import Left
from app.main import look_at_root, on_the_command_line, open_root, refuse_no_root, reindex_root
from app.settings import Settings

PASSING_S = 1.0  # what a server at work is in the middle of is over by then
FOREVER_S = 100 * 366 * 86400


def reindex(settings: Settings) -> int:
    """Rebuild the catalog from the files; 1 where something on disk could not be believed."""
    rebuilt = reindex_root(_keeping_the_trash(settings))
    for fault in rebuilt.faults:
        print(f"left alone: {fault}", file=sys.stderr)
    for remark in rebuilt.remarks:
        print(f"taken in, but {remark}", file=sys.stderr)
    print(f"{_count(rebuilt.checkpoints)} in {_count(rebuilt.directories, 'directory', 'directories')}")
    return 1 if rebuilt.faults else 0


def fsck(settings: Settings, dry_run: bool) -> int:
    """Compare files, manifests and catalog, read every byte back, and repair what is certain.

    The status is 0 where nothing is wrong, 1 where everything could be repaired, 4 where faults remain.
    """
    checking, outcomes = _look(settings) if dry_run else _repair(settings)
    for fault, outcome in outcomes:
        print(f"{fault} ({outcome})" if outcome else str(fault))
    remain = sum(1 for _, outcome in outcomes if outcome != "repaired")
    repaired = f"{_count(len(outcomes), 'fault', 'faults')}, {len(outcomes) - remain} repaired"
    found = repaired if outcomes else "all is well"
    print(f"{_count(checking.checkpoints)}, {checking.bytes_read} bytes read: {found}")
    return 4 if remain else 1 if outcomes else 0


def _look(settings: Settings) -> tuple[Checking, list[tuple[Fault, str]]]:
    """What is wrong with a root that a server may be changing: only what is found again."""
    parts = look_at_root(settings)
    try:
        checking = Checking(parts, _token_file(settings))
        faults = checking.run()
        if faults:
            faults = _still_there(faults, checking.run())
        if any(fault.is_passing for fault in faults):
            time.sleep(PASSING_S)
            faults = _still_there(faults, checking.run())
    finally:
        parts.catalog.close()
        parts.storage.close()
    return checking, [(fault, "would be repaired" if fault.mend else "") for fault in faults]


def _still_there(before: list[Fault], now: list[Fault]) -> list[Fault]:
    return [fault for fault in now if any(fault.is_same(other) for other in before)]


def _repair(settings: Settings) -> tuple[Checking, list[tuple[Fault, str]]]:
    refuse_no_root(settings)
    checkpoints = open_root(_keeping_the_trash(settings))
    try:
        checking = Checking(checkpoints.parts, _token_file(settings))
        with actor.acting(on_the_command_line()):
            return checking, list(checking.mended(checking.run()))
    finally:
        checkpoints.close()


def _token_file(settings: Settings) -> list[str]:
    """The file with the token, where that lies in the root."""
    if settings.token_file is None:
        return []
    file, root = settings.token_file.resolve(), settings.root.resolve()
    return [file.relative_to(root).as_posix()] if file.is_relative_to(root) else []


def _keeping_the_trash(settings: Settings) -> Settings:
    """Only a server knows its undo window: nobody else empties the trash."""
    return settings.model_copy(update={"undo_window": FOREVER_S})


def adopt(settings: Settings, folder: str, name: str | None, dry_run: bool) -> int:
    """Take in checkpoints that other tools wrote; 1 where something that looks like one was left alone."""
    checkpoints = open_root(_keeping_the_trash(settings))
    taken = known = directories = missed = 0
    verb = "would be taken in" if dry_run else "taken in"
    with closing(checkpoints), actor.acting(on_the_command_line()):
        for told in adopting.adopt(checkpoints.parts, folder, name, dry_run=dry_run):
            if isinstance(told, Left):
                missed += told.is_missed
                print(f"left alone: {told.where}: {told.why}", file=sys.stderr)
                continue
            taken, known, directories = taken + told.taken, known + told.known, directories + (told.taken > 0)
            others = f", {told.others} other files left as they are" if told.others else ""
            size = f"{told.size_bytes / 1e6:.1f} MB"
            print(f"{told.directory}: {_count(told.taken)} {verb} ({size}), {told.known} known before{others}")
    where = _count(directories, "directory", "directories")
    print(f"In all: {_count(taken)} {verb} ({where}), {known} known before, {missed} left alone")
    return 1 if missed else 0


def _count(number: int, one: str = "checkpoint", several: str = "checkpoints") -> str:
    return f"{number} {one if number == 1 else several}"
