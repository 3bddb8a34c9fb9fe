"""Event feed: what many streams share is done once, and a burst leaves the event loop to others in between."""

import asyncio
from contextlib import ExitStack, closing
from itertools import pairwise

import pytest

from app.bootstrap import utc_now
from app.catalog import Catalog, default_url
from app.service.state.events import access_rechecks, backlog, fan_out, feed, watcher
from app.service.state.events.event_format import EventFormat
from app.service.state.events.feed import EventFeed
from app.service.state.events.notifier import Notifier
from app.service.state.events.prefix_index import ancestors
from app.service.state.events.watcher import Watcher

MANY = 50
FORM = EventFormat(encode=lambda event: b"%d " % event.id, join=b"".join, ping=b"ping ", progress=b"moving ")


@pytest.fixture
def catalog(tmp_path):
    with closing(Catalog(default_url(tmp_path))) as opened:
        yield opened


def add(catalog, *directories):
    with catalog.writing() as session:
        for directory in directories:
            session.events.add("checkpoint.saved", at=utc_now(), directory=directory)


@pytest.fixture
def run(catalog):
    """Runs a coroutine function with a feed, and closes the feed."""

    def run_with_feed(act, changed_uploads=lambda _: set()):
        async def main():
            events = EventFeed(catalog, Notifier(), changed_uploads)
            try:
                return await asyncio.wait_for(act(events), 60)
            finally:
                await asyncio.to_thread(events.close)

        return asyncio.run(main())

    return run_with_feed


def collect(events, prefix="", *, key="token", still_may=lambda: True, form=FORM, after=0):
    """Begin a stream as a task; return the task, and the pieces as they come."""
    pieces = []

    async def consume():
        with events.watching(prefix, form, key=key, still_may=still_may) as watching:
            async for piece in events.stream(watching, after):
                pieces.append(piece)

    return asyncio.create_task(consume()), pieces


async def until(condition):
    while not condition():
        await asyncio.sleep(0.005)


async def live(events, count):
    """Wait until so many streams are live."""
    await until(lambda: len(list(events._live)) == count)


def test_an_event_is_serialised_once_for_all_streams_and_prefixes(catalog, run):
    encoded = []

    def encode(event):
        encoded.append(event.id)
        return b"%d " % event.id

    async def act(events):
        form = EventFormat(encode=encode, join=b"".join, ping=b"")
        streams = [collect(events, prefix, form=form) for prefix in ("", "runs", "runs/a", "runs/b") * 3]
        await live(events, 12)
        add(catalog, "runs/a", "runs/ab", "other")
        events._notifier.notify()
        await until(lambda: all(pieces for _, pieces in streams[:3]))
        return [b"".join(pieces) for _, pieces in streams[:4]]

    assert run(act) == [b"1 2 3 ", b"1 2 ", b"1 ", b""]
    assert sorted(encoded) == [1, 2, 3]


def test_access_is_checked_once_for_all_streams_of_a_token(run, monkeypatch):
    monkeypatch.setattr(access_rechecks, "RECHECK_S", 0.05)
    allowed, checks = {"one": True, "other": True}, []

    def check_of(key):
        def still_may():
            checks.append(key)
            return allowed[key]

        return still_may

    async def act(events):
        ones = [collect(events, key="one", still_may=check_of("one"))[0] for _ in range(MANY)]
        other = collect(events, key="other", still_may=check_of("other"))[0]
        await live(events, MANY + 1)
        del checks[:]
        await until(lambda: checks.count("other") >= 3)
        assert checks.count("one") <= checks.count("other") + 1
        allowed["one"] = False
        await asyncio.gather(*ones)
        assert not other.done()

    run(act)


def test_a_check_that_fails_once_is_made_again_before_events_are_sent(catalog, run):
    """It hinders no check of another token."""
    revoked, failed = [], []

    def failing_once():
        if revoked and not failed:
            failed.append(True)
            raise OSError("the disk did not answer")
        return not revoked

    async def act(events):
        failing, pieces = collect(events, key="failing", still_may=failing_once)
        other, others_pieces = collect(events, key="other", still_may=lambda: not revoked)
        await live(events, 2)
        revoked.append(True)
        with catalog.writing() as session:
            session.tokens.begin_session("hash", "token", utc_now())
        add(catalog, "runs/a")
        events._notifier.notify()
        await asyncio.gather(failing, other)
        return pieces, others_pieces

    assert run(act) == ([], [])
    assert failed


def test_a_backlog_ends_with_its_token(catalog, run, monkeypatch):
    monkeypatch.setattr(backlog, "PAGE", 1)
    add(catalog, "runs/a", "runs/a", "runs/a")

    async def act(events):
        found = []
        with events.watching("", FORM, key="key", still_may=lambda: not found) as watching:
            async for piece in events.stream(watching, 0):
                found.append(piece)
                with catalog.writing() as session:
                    session.tokens.begin_session("hash", "token", utc_now())
        return found

    assert run(act) == [b"1 "]


def test_uploads_are_polled_once_for_all_pages(run, monkeypatch):
    monkeypatch.setattr(feed, "POLL_S", 0.05)
    polls = []

    def changed_uploads(since):
        polls.append(since)
        return {"runs/a"}

    async def act(events):
        inside = [collect(events, prefix)[1] for prefix in ("", "runs", "runs/a") * 10]
        outside = collect(events, "runs/ab")[1]
        silent = collect(events, "runs/a", form=EventFormat(encode=FORM.encode, join=FORM.join, ping=b""))[1]
        await live(events, 32)
        del polls[:]
        await until(lambda: all(pieces for pieces in inside))
        assert len(polls) < len(inside)
        assert polls == sorted(set(polls))
        assert {piece for pieces in inside for piece in pieces} == {b"moving "}
        assert outside == silent == []

    run(act, changed_uploads)


def test_quiet_streams_are_pinged(run, monkeypatch):
    monkeypatch.setattr(feed, "PING_S", 0.05)
    monkeypatch.setattr(feed, "POLL_S", 0.05)

    async def act(events):
        pieces = collect(events)[1]
        await until(lambda: len(pieces) >= 2)
        assert set(pieces) == {b"ping "}

    run(act)


def test_the_event_loop_goes_on_between_the_slices_of_a_burst(catalog, run):
    async def act(events):
        streams = [collect(events) for _ in range(MANY)]
        await live(events, MANY)
        add(catalog, "runs/a")
        events._notifier.notify()
        served = [0]
        while served[-1] < MANY:
            served.append(sum(bool(pieces) for _, pieces in streams))
            await asyncio.sleep(0)
        assert max(after - before for before, after in pairwise(served)) <= fan_out.SLICE < MANY / 2

    run(act)


def test_a_stream_that_joins_while_others_are_ahead_of_its_page_gets_what_lies_between(catalog, run):
    async def act(events):
        ahead = collect(events)[1]
        await live(events, 1)
        page = events.backlog.page

        async def page_then_news(*arguments, **options):
            found = await page(*arguments, **options)
            if options.get("until") is None:
                add(catalog, "runs/a", "runs/b")
                events._notifier.notify()
                await until(lambda: b"".join(ahead).endswith(b"2 "))
            return found

        events.backlog.page = page_then_news
        late = collect(events, "runs/b")[1]
        await until(lambda: late)
        add(catalog, "runs/b")
        events._notifier.notify()
        await until(lambda: b"".join(late) == b"2 3 ")

    run(act)


def test_a_stream_that_is_ahead_of_the_others_gets_nothing_twice(catalog, run):
    async def act(events):
        collect(events)
        await live(events, 1)
        with ExitStack() as held:
            held.enter_context(events._guard)  # the reader of news cannot go on
            add(catalog, "runs/a")
            page = await events.backlog.page(FORM, "", 0)
        with events.watching("", FORM, key="key", still_may=lambda: True) as watching:
            pieces = []

            async def consume():
                async for piece in events._live_stream(watching, page.after, page.seen):
                    pieces.append(piece)

            consuming = asyncio.create_task(consume())
            await live(events, 2)
            add(catalog, "runs/a")
            events._notifier.notify()
            await until(lambda: pieces)
            consuming.cancel()
            return b"".join(pieces)

    assert run(act) == b"2 "


def test_streams_whose_next_events_were_deleted_unread_are_cut(catalog, run):
    async def act(events):
        stream, pieces = collect(events)
        await live(events, 1)
        add(catalog, "runs/a")
        await until(lambda: pieces)
        with catalog.writing() as session:
            for _ in range(3):
                session.events.add("checkpoint.saved", at=utc_now(), directory="runs/a")
            session.horizons.trim_journal("events", 3)
        await stream
        return b"".join(pieces)

    assert run(act) == b"1 ", "it ends instead of going on with the fourth"


def test_no_thread_runs_without_streams(run):
    async def act(events):
        assert events._thread is None
        task = collect(events)[0]
        await live(events, 1)
        thread = events._thread
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        events._notifier.notify()
        await until(lambda: not thread.is_alive())
        assert events._thread is None
        assert events._position is None

    run(act)


def test_a_full_queue_cuts_the_watcher_alone(monkeypatch):
    monkeypatch.setattr(watcher, "QUEUE_BYTES", 10)

    async def act():
        slow, fast = Watcher("", FORM), Watcher("", FORM)
        for number in range(3):
            for each in (slow, fast):
                each.put(b"%d23456" % number)
            assert await fast.next() == b"%d23456" % number
        assert slow.is_cut
        assert not fast.is_cut
        assert await slow.next() is None

    asyncio.run(act())


def test_queued_payloads_are_sent_as_one_piece_of_bounded_size(monkeypatch):
    monkeypatch.setattr(watcher, "PIECE_BYTES", 5)

    async def act():
        one = Watcher("", FORM)
        for payload in (b"12", b"345", b"6", b"1234567890", b"x"):
            one.put(payload)
        return [await one.next() for _ in range(4)]

    assert asyncio.run(act()) == [b"12345", b"6", b"1234567890", b"x"]


def test_the_prefixes_of_a_directory():
    assert list(ancestors("runs/a/deep")) == ["", "runs", "runs/a", "runs/a/deep"]
    assert list(ancestors("runs")) == ["", "runs"]
