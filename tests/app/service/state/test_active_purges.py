"""Active purges: removals that are carried out in the background, together with those that came meanwhile."""

import threading

import pytest

from app.service.state.active_purges import HELP, MOST_AT_ONCE, MOST_WAITING, ActivePurges
from tests.data.samples import checkpoint
from tests.support.deadlines import DEADLINE_S
from tests.support.live import eventually


def test_a_server_whose_saves_never_pause_gathers_no_tasks():
    purges, done, may_go_on = ActivePurges(), [], threading.Event()

    def purge(batch):
        assert may_go_on.wait(DEADLINE_S)
        done.extend(batch)

    going = [checkpoint(number) for number in range(1, 3 * MOST_AT_ONCE)]
    for each in going:
        purges.schedule(purge, [each])
    assert purges._worker._work_queue.qsize() <= 1
    may_go_on.set()
    purges.close()
    assert done == going


def test_what_is_scheduled_while_the_last_batch_is_purged_is_purged_too():
    purges, done = ActivePurges(), []
    first, second = checkpoint(1), checkpoint(2)

    def purge(batch):
        if first in batch:
            purges.schedule(purge, [second])
        done.extend(batch)

    purges.schedule(purge, [first])
    purges.close()
    assert done == [first, second]


def test_a_purge_that_fails_holds_up_no_later_one():
    purges, done = ActivePurges(), threading.Event()

    def fail(batch):
        raise OSError(28, "No space left on device")

    purges.schedule(fail, [checkpoint(1)])
    assert eventually(lambda: not purges._is_awake)
    purges.schedule(lambda batch: done.set(), [checkpoint(2)])
    assert done.wait(DEADLINE_S)
    purges.close()


@pytest.mark.parametrize("is_over", [True, False])
def test_saves_that_outpace_the_thread_help_it(is_over):
    purges, may_go_on, helped = ActivePurges(), threading.Event(), []
    purges.schedule(lambda batch: may_go_on.wait(DEADLINE_S), [checkpoint(1)])
    assert eventually(lambda: not purges._scheduled)  # the thread is busy with it
    waiting = [checkpoint(number) for number in range(2, 2 + MOST_WAITING + is_over)]
    purges.schedule(lambda batch: None, waiting)
    purges.help(helped.extend)
    assert helped == (waiting[:HELP] if is_over else [])
    may_go_on.set()
    purges.close()
