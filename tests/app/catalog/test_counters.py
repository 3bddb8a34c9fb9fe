"""Counters and rollups of directories say what counting their rows says, whatever changes are made, and undone."""

import itertools
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from app.catalog import Catalog
from app.catalog.rows import counters
from app.catalog.rows.directories import Totals
from app.core.models import Chunk, File, FileMap, Manifest
from tests.data.histories import new_directory
from tests.data.samples import AT, FACTS, checkpoint

PICK = st.integers(0, 50)
"""Picks one of those that there are, by its remainder."""
MINUTES = st.integers(-30, 30)
CHANGES = st.one_of(
    st.tuples(st.just("add"), st.integers(1, 3), FACTS),
    st.tuples(st.just("add"), st.integers(1, 3), FACTS),
    st.tuples(st.just("change"), PICK, FACTS),
    st.tuples(st.just("save again"), PICK, FACTS),
    st.tuples(st.just("repair"), PICK, FACTS, MINUTES),
    st.tuples(st.just("remove"), PICK, st.sampled_from(["pruned", "replaced", "deleted", "lost"]), MINUTES),
    st.tuples(st.just("remove"), PICK, st.sampled_from(["pruned", "replaced", "deleted", "lost"]), MINUTES),
    st.tuples(st.just("trash"), PICK),
    st.tuples(st.just("restore"), PICK, st.booleans()),
    st.tuples(st.just("free"), PICK),
    st.tuples(st.just("verify"), PICK, st.sampled_from([None, "a byte is wrong"])),
    st.tuples(st.just("forget removed"), st.lists(PICK, max_size=3)),
    st.tuples(st.just("forget freed"), st.lists(PICK, max_size=3)),
    st.tuples(st.just("forget live")),
    st.tuples(st.just("read back"), PICK),
    st.tuples(st.just("ask")),
    st.tuples(st.just("fail")),
)


class Failure(Exception):
    pass


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    opened = Catalog(f"sqlite:///{tmp_path_factory.mktemp('catalog') / 'catalog.db'}")
    yield opened
    opened.close()


def made(directory, sequence, facts=None):
    one = checkpoint(sequence, directory=directory, facts=facts, size_bytes=sequence * 10)
    return Manifest(one, {file.path: FileMap((Chunk(1, "0" * 64),)) for file in one.files})


@settings(max_examples=150, deadline=None)
@given(transactions=st.lists(st.lists(CHANGES, min_size=1, max_size=6), min_size=1, max_size=8))
def test_counters_say_what_counting_says(catalog, transactions):
    directories, numbers, ids = [new_directory(), new_directory()], itertools.count(1), []
    for changes in transactions:
        begun = len(ids)
        try:
            with catalog.writing() as session:
                for change in changes:
                    apply(session, directories, numbers, ids, change)
        except Failure:
            del ids[begun:]
        with catalog.reading() as session:
            assert session.counters.mismatches() == session.rollups.mismatches() == []
            for directory in directories:
                sizes = [one.size_bytes for one in session.checkpoints.live(directory)]
                assert session.counters.totals(directory) == Totals(len(sizes), sum(sizes))


def apply(session, directories, numbers, ids, change):
    """Make one change of one of the checkpoints that there are."""
    rows, (what, *how) = session.checkpoints, change
    if what == "add":
        new = [made(directories[(count := next(numbers)) % 2], count, how[1]) for _ in range(how[0])]
        rows.add(*new)
        ids += [manifest.checkpoint.id for manifest in new]
    elif what == "ask":
        for directory in directories:
            session.counters.totals(directory)
    elif what == "fail":
        raise Failure
    elif what == "forget live":
        rows.forget_live()
    elif what.startswith("forget"):
        chosen = [ids[index % len(ids)] for index in how[0]] if ids else []
        (rows.forget_removed if what == "forget removed" else rows.forget_freed)(chosen)
    elif ids and (known := rows.get(ids[how[0] % len(ids)])) is not None:
        change_one(rows, what, known, *how[1:])


def change_one(rows, what, known, *how):
    match what:
        case "change":
            rows.change(replace(known, facts=how[0]))
        case "save again":
            rows.save_again(replace(known, facts=how[0]), "a writer")
        case "repair":
            files = (File(known.name, known.size_bytes + 7, "0" * 64, "0"),)
            known = replace(known, facts=how[0], files=files, created_at=AT + timedelta(minutes=how[1]))
            rows.repair(Manifest(known, {known.name: FileMap(())}))
        case "remove":
            rows.mark_removed(known, how[0], AT + timedelta(minutes=how[1]))
        case "trash":
            rows.mark_trashed(known.id)
        case "restore" if known.removed_at is not None and rows.named(known.directory, known.name) is None:
            rows.mark_restored(replace(known, facts=replace(known.facts, pinned=how[0])))
        case "free":
            rows.mark_freed(known.id)
        case "verify":
            rows.mark_verified(known.id, AT, how[0])
        case "read back":
            rows.put_verified([{"known_id": known.id, "known_digest": known.digest, **VERIFIED}])


VERIFIED = {"known_verified_at": "2026-11-23T14:05:01.000000Z", "known_damage": None}


def test_changes_count_for_the_reads_of_their_own_transaction(tmp_path):
    catalog = Catalog(f"sqlite:///{tmp_path}/catalog.db")
    with catalog.writing() as session:
        session.checkpoints.add(made("runs/a", 1), made("runs/a", 2), made("runs/b", 3), made("other", 4))
        assert session.counters.totals("runs/a") == Totals(2, 30)
        session.checkpoints.mark_removed(session.checkpoints.named("runs/a", "c1.pt"), "pruned", AT)
        assert session.counters.totals("runs/a") == Totals(1, 20)
        assert session.counters.usage("runs").size_bytes == 50
        assert session.counters.held("") == {"other": Totals(1, 40), "runs/a": Totals(1, 20), "runs/b": Totals(1, 30)}
        assert session.counters.largest("", 2) == [("other", Totals(1, 40)), ("runs/b", Totals(1, 30))]
        assert session.counters.sums("runs")["pruned_bytes"] == session.counters.sums("")["unfreed_bytes"] == 10
    catalog.close()


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE directory_counters SET live_bytes = live_bytes + 1 WHERE directory = 'runs/a'",
        "DELETE FROM directory_counters WHERE directory = 'runs/a'",
        "INSERT INTO directory_counters SELECT 'runs/none', 1" + ", 0" * 14,
        "UPDATE checkpoints SET freed = 1 WHERE name = 'c2.pt'",
    ],
)
def test_wrong_counters_are_found_and_counted_anew(tmp_path, damage):
    catalog = Catalog(f"sqlite:///{tmp_path}/catalog.db")
    with catalog.writing() as session:
        session.checkpoints.add(made("runs/a", 1), made("runs/a", 2), made("runs/b", 3))
        session.checkpoints.mark_removed(session.checkpoints.named("runs/a", "c2.pt"), "pruned", AT)
    with closing(sqlite3.connect(tmp_path / "catalog.db")) as connection, connection:
        connection.execute(damage)
    with catalog.writing() as session:
        ((directory, names),) = session.counters.mismatches()
        assert names
        session.counters.repair(directory)
        assert session.counters.mismatches() == []
    with closing(sqlite3.connect(tmp_path / "catalog.db")) as connection, connection:
        connection.execute("UPDATE directory_counters SET live_count = 77")
    with catalog.writing() as session:
        assert len(session.counters.mismatches()) >= 2
        counters.rebuild(session)
        assert session.counters.mismatches() == []
    catalog.close()


def test_nothing_is_counted_any_more_of_a_directory_whose_checkpoints_are_forgotten(catalog):
    directory = new_directory()
    query = text("SELECT live_count, deleted_count FROM directory_counters WHERE directory = :directory")
    with catalog.writing() as session:
        session.checkpoints.add(made(directory, 1), made(directory, 2))
        for one in session.checkpoints.live(directory):
            session.checkpoints.mark_removed(one, "deleted", AT)
            session.checkpoints.mark_gone(one.id)
            session.checkpoints.mark_freed(one.id)
    for number, counted in ((1, [(0, 1)]), (2, [])):
        with catalog.writing() as session:
            session.checkpoints.forget_freed([checkpoint(number, directory=directory).id])
        with catalog.reading() as session:
            assert session.connection.execute(query, {"directory": directory}).all() == counted
