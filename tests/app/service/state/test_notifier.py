"""Notifier: a notification wakes every waiting task, and a task that left its block is forgotten."""

import asyncio

from app.service.state.notifier import Notifier


def test_a_waiter_is_forgotten_after_its_block():
    async def look(notifier):
        for _ in range(3):
            with notifier.waiter() as waiter:
                assert not waiter.is_set()
        return len(notifier._waiting)

    assert asyncio.run(look(Notifier())) == 0


def test_a_notification_wakes_every_waiter_and_closing_every_later_one():
    async def wait(notifier):
        with notifier.waiter() as one, notifier.waiter() as other:
            notifier.notify()
            await asyncio.wait_for(asyncio.gather(one.wait(), other.wait()), 10)
        notifier.close()
        with notifier.waiter() as late:
            return late.is_set()

    assert asyncio.run(wait(Notifier()))
