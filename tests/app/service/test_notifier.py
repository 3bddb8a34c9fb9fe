"""Those who wait for events are woken by a ring, and are forgotten when they wait no more."""

import asyncio

from app.service.state.context import Bell


def test_who_has_gone_is_not_waited_for():
    async def look(bell):
        for _ in range(3):
            with bell.waiter() as waiter:
                assert not waiter.is_set()
        return len(bell._waiting)

    assert asyncio.run(look(Bell())) == 0


def test_a_ring_wakes_all_who_wait_and_silence_all_who_come():
    async def wait(bell):
        with bell.waiter() as one, bell.waiter() as other:
            bell.ring()
            await asyncio.wait_for(asyncio.gather(one.wait(), other.wait()), 10)
        bell.silence()
        with bell.waiter() as late:
            return late.is_set()

    assert asyncio.run(wait(Bell()))
