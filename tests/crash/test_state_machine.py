"""Random steps on a directory, in any order: it holds what a simple model of it says.

Servers are killed and started again in between, and their clock jumps by hours and days.
"""

import os
import random
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, run_state_machine_as_test

from tests.crash.harness.rounds import IS_LONG, rounds
from tests.crash.model.asking import (
    ALL_CONTENTS,
    CONTENTS,
    epochs,
    limits,
    limits_with_none,
    metadata,
    metrics,
    modes,
    saves,
    seldom,
    tags,
)
from tests.crash.model.directory_model import Wanted
from tests.crash.model.looking import refused, same
from tests.crash.model.one_directory import OneDirectory
from tests.crash.model.world import STEPS, new_world, step

PARTS = 2
"""Each has a server of its own, so that several run at a time."""
MANY = rounds(5_000, 100_000) // PARTS
STEPS_EACH = 100
QUIET_STEPS = 70  # between two starts of the server, which take as long as thirty other steps

which = st.integers(0, 40)  # one of whatever there is


class DirectoryMachine(OneDirectory):
    """The steps."""

    # saves

    @step(wanted=saves())
    def save(self, wanted: Wanted) -> None:
        self._save(wanted)

    @step(wanted=saves(mode=st.none(), epoch=st.sampled_from([3, 4, 5]), pinned=st.just(False)))
    def save_again_and_again(self, wanted: Wanted) -> None:
        self._save(wanted)

    @step(wanted=saves(), behind=st.sampled_from([0, 1, 2, 5, 9, 10**6, -1, -7]))
    def deliver_late(self, wanted: Wanted, behind: int) -> None:
        self._save(replace(wanted, known=max(0, self.model.sequence - behind)))

    @step(wanted=saves(only_if_improved=st.just(True), kind=st.just("best"), mode=st.sampled_from([None, "min"])))
    def save_if_improved(self, wanted: Wanted) -> None:
        self._save(wanted)

    @step(wanted=saves(content=st.sampled_from(ALL_CONTENTS), limits=limits_with_none), hashed=st.booleans())
    def save_by_upload(self, wanted: Wanted, hashed: bool) -> None:
        if self._reserve(wanted, hashed=hashed):
            self._commit(self.begun.pop())

    @precondition(lambda self: self.model.saves)
    @step(index=which, other=seldom)
    def repeat_a_save(self, index: int, other: bool) -> None:
        save_id = list(self.model.saves)[index % len(self.model.saves)]
        row_id, wanted = self.model.saves[save_id]
        if wanted.content not in CONTENTS:
            answer = self.asking.reserve(wanted, hashed=True)
            assert (answer.status_code, answer.json()["state"]) == (200, "committed")
            assert answer.json()["checkpoint"]["id"] == row_id
        elif other:
            content = CONTENTS[(CONTENTS.index(wanted.content) + 1) % len(CONTENTS)]
            refused(self.asking.save(replace(wanted, content=content)), {"save_id_reused"}, status=422)
        else:
            answer = self.asking.save(wanted)
            assert answer.status_code == 200, answer.text
            told = answer.json()
            assert (told["repeated"], told["removed"], told["policy"]) == (True, [], self.model.policy())
            same(told, self.model.rows[row_id])

    # saves in several steps

    @precondition(lambda self: len(self.begun) < 3)
    @step(wanted=saves(content=st.sampled_from(ALL_CONTENTS), limits=limits_with_none), hashed=st.booleans())
    def begin_an_upload(self, wanted: Wanted, hashed: bool) -> None:
        self._reserve(wanted, hashed=hashed)

    @precondition(lambda self: self.begun)
    @step(index=which)
    def commit_an_upload(self, index: int) -> None:
        self._commit(self.begun.pop(index % len(self.begun)))

    # changes

    @precondition(lambda self: self.model.live())
    @step(index=which, pinned=st.booleans())
    def pin(self, index: int, pinned: bool) -> None:
        self._change(self._one(index), {"pinned": pinned})

    @precondition(lambda self: self.model.live())
    @step(index=which, metric=metrics, is_best=seldom, epoch=epochs)
    def correct(self, index: int, metric: float | None, is_best: bool, epoch: int | None) -> None:
        self._change(self._one(index), {"metric": metric, "is_best": is_best, "epoch": epoch})

    @precondition(lambda self: self.model.live())
    @step(index=which, tags=tags, changed=metadata, drop=seldom)
    def describe(self, index: int, tags: tuple[str, ...], changed: dict[str, Any], drop: bool) -> None:
        row = self._one(index)
        merged = {**row.metadata, **changed}
        if drop:
            merged.pop("acc", None)
            changed = {**changed, "acc": None}
        self._change(row, {"tags": tags, "metadata": merged}, {"tags": list(tags), "metadata": changed})

    @precondition(lambda self: self.model.rows)
    @step(index=which)
    def delete(self, index: int) -> None:
        row = self.model.everything()[index % len(self.model.rows)]
        answer = self.http.delete(f"/v1/checkpoints/{row.id}")
        if row.removed_because is not None:
            refused(answer, {"checkpoint_removed"}, status=410)
        elif row.pinned:
            refused(answer, {"pinned"})
        else:
            self.model.delete(row)
            same(answer.json(), row)

    # the directory

    @step(dry_run=seldom)
    def prune(self, dry_run: bool) -> None:
        self.looking.prune(dry_run=dry_run)

    @step(mode=modes, limits=st.one_of(limits, limits_with_none))
    def order(self, mode: str | None, limits: dict[str, int | None]) -> None:
        answer = self.asking.about("PUT", json={**limits, **({"mode": mode} if mode else {})})
        if answer.status_code == 404:
            assert not self.model.is_known
            assert not limits
            assert mode is None
            return
        self.model.order(mode, limits)
        assert answer.json()["policy"] == self.model.policy()

    @precondition(lambda self: len(self.model.live()) >= 8)
    @step(include_pinned=seldom)
    def clear(self, include_pinned: bool) -> None:
        self._clear(include_pinned=include_pinned)

    # restarts and clocks

    @step(by_s=st.sampled_from([3_977.0, 36_013.0, 100_057.0, 400_009.0, -7.0, -50_111.0, -250_007.0]))
    def clock_jumps(self, by_s: float) -> None:
        self.world.set_clock(self.world.ahead_s + by_s)

    @precondition(lambda self: self.quiet >= QUIET_STEPS)
    @step(kill=st.booleans())
    def restart(self, kill: bool) -> None:
        status = self.world.server.kill() if kill else self.world.server.stop()
        self._start()
        assert status in {None, 0}

    @precondition(lambda self: self.quiet >= QUIET_STEPS)
    @step(wanted=saves(), after_ms=st.integers(0, 25))
    def kill_during_a_save(self, wanted: Wanted, after_ms: int) -> None:
        """Done again after the start it is done once, however far it had come."""
        wanted = replace(wanted, save_id=self._number())
        with httpx.Client(base_url=self.world.server.url) as own, ThreadPoolExecutor(1) as pool:
            attempt = pool.submit(self.asking.save, wanted, own)
            time.sleep(after_ms / 1000)  # any moment will do
            self.world.server.kill()
        self.looking.look_at_the_counters()
        self._start()
        assert isinstance(attempt.exception(), httpx.TransportError | None)
        self._save(wanted, begun_before=True)

    # invariants

    @invariant()
    def it_holds_what_the_model_holds(self) -> None:
        if not self.model.is_known:
            refused(self.asking.get("/v1/checkpoints"), {"directory_not_found"}, status=404)
        elif self.steps % 20 == 19:
            self.looking.look_closely()
        elif self.steps % 5 == 0:  # the answers to the others tell enough
            self.looking.look(include_removed=self.steps % 10 == 0)
        self.steps += 1
        self.quiet += 1

    def teardown(self) -> None:
        for upload in self.begun:
            assert self.http.delete(f"/v1/uploads/{upload.id}").status_code == 204
        self.looking.look_closely()
        server = self.world.server
        assert server.incoming() == []
        assert list((server.root / ".holdfast" / "trash").iterdir()) == []
        if self.model.is_known:
            self._clear(include_pinned=True)
            self.looking.look(include_removed=True)
        self.looking.look_at_the_disk()


@pytest.mark.parametrize("part", range(PARTS))
def test_a_directory_does_what_its_model_does(tmp_path, part):
    class Machine(DirectoryMachine):
        pass

    with new_world(tmp_path) as world:
        Machine.world = world
        play(Machine, part)
    print(f"{world.done.total()} steps in {world.examples} examples: {dict(world.done.most_common())}")
    assert world.done.total() >= MANY
    assert {each for each in STEPS if world.done[each] < MANY // 2000 + 1} == set(), "nothing is left out"


def play(machine: type[RuleBasedStateMachine], part: int) -> None:
    """Play the same steps in each short run, so that it is stable; others in each long one."""
    number = part
    if IS_LONG:
        number = int(os.environ.get("HOLDFAST_TORTURE_SEED") or random.randrange(2**32))
        print(f"HOLDFAST_TORTURE_SEED={number}")
    seed(number)(machine)
    how = settings(
        max_examples=MANY * 140 // 100 // STEPS_EACH,  # now and then one ends early
        stateful_step_count=STEPS_EACH,
        deadline=None,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine, settings=how)
