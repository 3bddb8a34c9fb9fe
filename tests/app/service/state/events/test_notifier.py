"""Notifier: news wakes the waiting thread once, also news of before it waits; a closed one lets none wait."""

import threading
import time

from app.service.state.events.notifier import Notifier

LONG_S, MOMENT_S = 100, 0.05


def waited_s(notifier, seconds):
    began = time.monotonic()
    notifier.wait(seconds)
    return time.monotonic() - began


def test_news_is_found_once():
    notifier = Notifier()
    notifier.notify()
    notifier.notify()
    assert waited_s(notifier, LONG_S) < LONG_S
    assert waited_s(notifier, MOMENT_S) >= MOMENT_S


def test_news_wakes_the_thread_that_waits():
    notifier, woken = Notifier(), threading.Event()

    def wait():
        notifier.wait(LONG_S)
        woken.set()

    thread = threading.Thread(target=wait)
    thread.start()
    notifier.notify()
    assert woken.wait(LONG_S / 2)
    thread.join()


def test_once_closed_it_lets_none_wait():
    notifier = Notifier()
    notifier.close()
    assert notifier.closed
    for _ in range(2):
        assert waited_s(notifier, LONG_S) < LONG_S
