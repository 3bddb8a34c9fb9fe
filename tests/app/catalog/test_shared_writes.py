"""Shared writes: what waits together is committed together, and each thread gets what came of its own work."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from sqlalchemy import event, text

from app.catalog import Catalog
from app.core.errors import NoSpace
from app.core.models import Directory, FileMap, Manifest
from app.runtime import actor
from app.runtime.actor import Actor
from tests.data.samples import AT, checkpoint
from tests.support.live import eventually

THREADS = 20


@pytest.fixture
def catalog(tmp_path):
    with closing(Catalog(f"sqlite:///{tmp_path / 'catalog.db'}")) as opened:
        yield opened


@pytest.fixture
def commits(catalog):
    """Counts the transactions that were committed."""
    seen = []
    event.listen(catalog._engine, "commit", seen.append)
    return seen


def together(catalog, works):
    """Let threads do these works while another transaction is open, so that all of them wait; return their outcomes."""

    def run(number, work):
        actor.enter(Actor(f"token-{number}"))
        try:
            return catalog.write_together(work)
        except (RuntimeError, NoSpace) as error:
            return str(error)

    with ThreadPoolExecutor(len(works)) as pool:
        with catalog.writing():
            outcomes = [pool.submit(run, number, work) for number, work in enumerate(works)]
            assert eventually(lambda: len(catalog._shared._waiting) >= len(works) - 1)  # one may have begun
        return [outcome.result(30) for outcome in outcomes]


def noting(number):
    def work(session):
        session.audit.add("noted", at=AT, number=number)
        return number

    return work


def noted(catalog):
    with catalog.reading() as session:
        lines = session.audit.before(1 << 40, prefix="", token_id=None, limit=100)
        return {(line.token_id, line.data["number"]) for line in lines}


def test_what_waits_is_committed_together_and_each_in_its_own_context(catalog, commits):
    found = together(catalog, [noting(number) for number in range(THREADS)])
    assert found == [*range(THREADS)]
    assert noted(catalog) == {(f"token-{number}", number) for number in range(THREADS)}
    assert len(commits) <= 3  # that of the test, the one that had begun, and one for all others


def test_work_that_fails_undoes_nothing_of_the_others(catalog):
    def failing(session):
        noting(99)(session)
        raise RuntimeError("on purpose")

    found = together(catalog, [noting(0), failing, noting(2), failing, noting(4)])
    assert found == [0, "on purpose", 2, "on purpose", 4]
    assert {number for _, number in noted(catalog)} == {0, 2, 4}


def test_counters_count_nothing_of_work_that_failed(catalog):
    def saving(number, fails):
        def work(session):
            made = checkpoint(number)
            session.directories.put(Directory(made.directory, AT, number))
            session.checkpoints.add(Manifest(made, {file.path: FileMap(()) for file in made.files}))
            if fails:
                raise RuntimeError("on purpose")

        return work

    together(catalog, [saving(number, number % 2 == 0) for number in range(1, 8)])
    with catalog.reading() as session:
        counted = session.counters.totals(checkpoint(1).directory)
        assert counted.count == len(session.checkpoints.live(checkpoint(1).directory)) == 4


def test_if_the_transaction_fails_all_learn_it_and_nothing_is_kept(catalog):
    broken = threading.Event()

    @event.listens_for(catalog._engine, "commit")
    def fail(_):
        if broken.is_set():
            raise RuntimeError("the disk is gone")

    def first(session):
        broken.set()
        return noting(0)(session)

    found = together(catalog, [first, *(noting(number) for number in range(1, 6))])
    assert found == ["the disk is gone"] * 6
    broken.clear()
    assert noted(catalog) == set()
    assert catalog.write_together(noting(7)) == 7
    assert {number for _, number in noted(catalog)} == {7}


def test_if_the_database_gives_the_transaction_up_no_work_counts_as_done(catalog):
    """SQLite undoes all of a transaction in which the disk is full, its savepoints included."""

    def filling(session):
        driver = session.connection.connection.driver_connection
        driver.execute("PRAGMA cache_size=1").close()  # pages go to the disk at once, not only with the commit
        pages = session.connection.execute(text("PRAGMA page_count")).scalar()
        session.connection.execute(text(f"PRAGMA max_page_count={pages + 1}")).close()
        try:
            session.audit.add("noted", at=AT, number="x" * 1_000_000)
        finally:
            driver.execute("PRAGMA max_page_count=1000000").close()

    found = together(catalog, [noting(0), noting(1), filling, noting(3), noting(4)])
    kept = {number for _, number in noted(catalog)}
    assert [outcome for outcome in found if isinstance(outcome, int)] == sorted(kept)
    assert found[2] == "There is no space left on the server's disk."
    assert catalog.write_together(noting(7)) == 7
