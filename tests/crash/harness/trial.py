"""A server that is ended again and again under load; after each end everything acknowledged must be there.

    trial = Trial(server, seed, scratch)
    trial.play(end, recover)

The last line may be repeated; the writers continue where they were.
"""

import random
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx

from tests.crash.harness import seen
from tests.crash.harness.acknowledged import State
from tests.crash.harness.deeds import Abandon, Refused, Save
from tests.crash.harness.seen import Seen, look
from tests.crash.harness.workload import Area, Workload
from tests.support.live import LiveServer, eventually

SHARED = "runs/shared"


class Broken(AssertionError):
    """Something that was acknowledged is not as it should be."""


class Lost(Broken):
    """A checkpoint that was acknowledged is gone, or has other bytes."""


class Trial:
    """One server, its writers and their knowledge, over all rounds."""

    def __init__(self, server: LiveServer, seed: int, scratch: Path, *, undo: bool = False) -> None:
        self.rng = random.Random(seed)
        self._server, self._scratch = server, scratch
        own = ["runs/own/min", "runs/own/max", "runs/own"]
        self.areas = [Area(directory, "c", random.Random(self.rng.random()), undo=undo) for directory in own]
        numbers: dict[int, str] = {}
        for prefix in ("x", "y"):
            rng = random.Random(self.rng.random())
            self.areas.append(Area(SHARED, prefix, rng, State(sequence=None), numbers=numbers, undo=undo))
        self._directories = sorted({area.directory for area in self.areas})

    def play(self, end: Callable[[], None], recover: Callable[[], None]) -> None:
        """A round: load until a moment made up, then the end, then the server's recovery, then the verdict."""
        Workload(self._server.http, self.areas).run(self.rng.uniform(0.1, 1.5), end)
        recover()
        self.verify()

    def recover(self, interrupt: Callable[[], None]) -> None:
        """Start the server; in a third of the cases it is interrupted while it recovers, perhaps more than once."""
        if self.rng.random() < 1 / 3:
            for _ in range(self.rng.randint(1, 3)):
                self._server.launch()
                pause(self.rng.uniform(0, 0.4))
                interrupt()
        try:
            self._server.start()
        except (RuntimeError, httpx.HTTPError) as error:
            raise self._broken(f"the server does not start any more: {error}") from error

    def verify(self) -> None:
        """`Broken` unless all that was acknowledged is there, and nothing else but what was under way.

        `Lost` where some of what was acknowledged is not.
        """
        self._server.wait_until_freed()
        if not eventually(lambda: all(seen.trash_known(self._server.root).values())):
            raise Broken("what was removed is not in the trash")
        shown = {directory: look(self._server, directory) for directory in self._directories}
        faults = [fault for area in self.areas for fault in self._settle(area, shown[area.directory])]
        faults = faults or self._wrong_numbers(shown) + self._wrong_files(shown) + self._wrong_uploads(shown)
        faults = faults or self._wrong_rebuilt(shown) or self._wrong_repetitions()
        if faults:
            raise self._broken("\n".join(faults), shown)

    # below

    def _broken(self, fault: str, shown: Mapping[str, Seen] | None = None) -> Broken:
        lost = [words for area in self.areas for words in self._lost(area, shown)]
        return Lost("\n".join([*lost, fault])) if lost else Broken(fault)

    def _lost(self, area: Area, shown: Mapping[str, Seen] | None) -> list[str]:
        """Of what was acknowledged and is not changed by what was under way, what is not there, in words."""
        state, found = area.state, []
        after = area.under_way.after(state) if area.under_way is not None else state
        for name, kept in state.kept.items():
            place = f"{area.directory}/{name}"
            if name not in after.kept or after.kept[name].contents != kept.contents:
                continue
            if shown is not None and name not in shown[area.directory].rows:
                found.append(f"{place} is not listed")
            found += seen.wrong_bytes(self._server.root, place, kept.contents)
        return found

    def _settle(self, area: Area, shown: Seen) -> list[str]:
        """Resolve the request that was under way: it has happened or not, and the area records which."""
        area.before = area.state
        if area.is_shared:
            shown = shown.part(area.prefix)
        faults = shown.differences(area.state)
        if faults and area.under_way is not None:
            after = area.under_way.after(area.state)
            if more := shown.differences(after):
                faults += [f"nor has {area.under_way} happened:", *more]
            else:
                area.state, faults = after, []
        if not faults:
            area.adopt(shown.rows)
        return [f"{area.directory} {area.prefix}: {fault}" for fault in faults]

    def _wrong_numbers(self, shown: Mapping[str, Seen]) -> list[str]:
        """List sequences given twice, counters that went back, and checkpoints that no writer saved."""
        faults = []
        for area in self.areas:
            found = shown[area.directory]
            for name in area.state.kept:
                row = found.rows[name]
                if area.numbers.setdefault(row["sequence"], row["save_id"]) != row["save_id"]:
                    faults.append(f"{area.directory}/{name}: the number {row['sequence']} was given twice")
            if found.sequence < max(area.numbers, default=0):
                faults.append(f"{area.directory}: the counter has gone back to {found.sequence}")
        saved = {(area.directory, name) for area in self.areas for name in area.state.kept}
        listed = {(directory, name) for directory, found in shown.items() for name in found.rows}
        return faults + [f"{'/'.join(each)} was saved by nobody" for each in listed - saved]

    def _wrong_files(self, shown: Mapping[str, Seen]) -> list[str]:
        faults = []
        for area in self.areas:
            for name, kept in area.state.kept.items():
                row = shown[area.directory].rows[name]
                faults += seen.wrong_content(self._server, row, kept.contents)
                faults += seen.wrong_manifest(self._server.root, row)
        return faults

    def _wrong_uploads(self, shown: Mapping[str, Seen]) -> list[str]:
        """List leftovers on the disk or in the catalog, and unfinished uploads that are gone."""
        known = seen.uploads_known(self._server.root)
        under_way = {area.under_way.save_id for area in self.areas if isinstance(area.under_way, Save | Abandon)}
        unfinished = {area.unfinished.save_id for area in self.areas if area.unfinished is not None}
        faults = [f"the upload of {lost} is gone" for lost in unfinished - under_way - set(known.values())]
        faults += [f"the upload of {left} is left over" for left in set(known.values()) - unfinished - under_way]
        rows = [row for found in shown.values() for row in found.rows.values()]
        trash = set(seen.trash_known(self._server.root))
        return faults + seen.strangers(self._server.root, rows, set(self._directories), set(known), trash)

    def _wrong_rebuilt(self, shown: Mapping[str, Seen]) -> list[str]:
        """In what a catalog that is made anew from a copy of the files does not say the same."""
        copy = self._scratch / "copy"
        shutil.copytree(self._server.root, copy, ignore=shutil.ignore_patterns("catalog.db*", "lock", "trash"))
        try:
            with LiveServer(copy) as other:
                rebuilt = {directory: look(other, directory) for directory in self._directories}
        finally:
            shutil.rmtree(copy)
        return [
            f"{directory}, rebuilt from its files: {fault}"
            for directory, found in shown.items()
            for fault in rebuilt[directory].contradictions(found)
        ]

    def _wrong_repetitions(self) -> list[str]:
        """Ask again for what was under way, which must succeed, and for earlier saves, which must change nothing."""
        try:
            for area in self.areas:
                operation, area.under_way, area.state = area.under_way, None, area.before
                if operation is not None:
                    area.acknowledge(operation, operation.send(self._server.http, again=True))
                if area.past:
                    save, checkpoint_id = area.rng.choice(area.past)
                    again = save.send(self._server.http, again=True)
                    if again is None or again["id"] != checkpoint_id:
                        return [f"{save} was done once more: {again}"]
        except Refused as refused:
            return [str(refused)]
        shown = {directory: look(self._server, directory) for directory in self._directories}
        return [fault for area in self.areas for fault in self._settle(area, shown[area.directory])]


def pause(seconds: float) -> None:
    """Let a moment pass that was made up, as crashes come at any."""
    time.sleep(seconds)
