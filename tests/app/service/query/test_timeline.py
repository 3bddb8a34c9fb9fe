"""Timelines: the steps of each span, and the bytes at each step compared with a plain count."""

import random
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, insert, select

from app.bootstrap import open_root
from app.catalog.reports import history
from app.catalog.rows import rollups
from app.catalog.rows.counters import REASONS
from app.catalog.rows.directories import Totals
from app.catalog.tables import schema
from app.catalog.tables.times import to_text
from app.core.models import Chunk, FileMap, Manifest
from app.service.query import timeline
from app.service.query.usage import MOST_LINES, WINDOWS
from app.settings import Settings
from tests.data.samples import checkpoint

NOW = datetime(2026, 3, 4, 5, 6, 7, 891011, UTC)


@pytest.mark.parametrize(
    ("span", "ago", "step_s"),
    [
        pytest.param("day", timedelta(days=900), 600, id="a day"),
        pytest.param("week", timedelta(0), 3600, id="a week, whatever there is"),
        pytest.param("month", timedelta(days=900), 3 * 3600, id="a month"),
        pytest.param("all", timedelta(seconds=20), 1, id="a server that was just started"),
        pytest.param("all", timedelta(hours=1), 10, id="an hour"),
        pytest.param("all", timedelta(hours=7), 60, id="a morning"),
        pytest.param("all", timedelta(days=400), 86400, id="a year"),
        pytest.param("all", timedelta(days=3000), 7 * 86400, id="some years"),
        pytest.param("all", NOW - datetime(1, 1, 1, tzinfo=UTC), 43 * 86400, id="a file without a sensible time"),
        pytest.param("all", timedelta(days=-3), 1, id="from the future"),
        pytest.param("all", None, 1, id="nothing"),
    ],
)
def test_a_span_has_few_equal_steps_that_end_now(span, ago, step_s):
    steps = timeline.steps(span, None if ago is None else NOW - ago, NOW)
    assert steps.step_s == step_s
    assert len(steps.at) == steps.count <= timeline.MOST_STEPS + 2
    assert steps.at[-1] == NOW
    assert NOW - timedelta(seconds=step_s) <= steps.at[-2] <= NOW
    if span == "all" and ago and timedelta(0) < ago < timedelta(days=5000):
        assert NOW - ago - timedelta(seconds=step_s) < steps.start <= NOW - ago
    cut = to_text(steps.start)[: steps.characters]
    assert to_text(steps.start + timedelta(seconds=step_s))[: steps.characters] != cut
    assert to_text(steps.start).startswith(cut + history._REST[steps.characters :])  # cut off, it is the same time


def test_the_last_value_includes_every_change():
    steps = timeline.steps("day", None, NOW)
    late = NOW + timedelta(days=300)
    values = timeline.line(steps, 113, [(steps.start, 10), (steps.at[1], -4), (late, 100)])
    assert values[:4] == [7, 17, 13, 13]
    assert values[-2:] == [13, 113]


def row(number, directory, created_at, removed_at):
    who = {"id": f"{number:032d}", "directory": directory, "name": f"{number}.pt", "save_id": f"{number}"}
    place = {"sequence": number, "saved_after": number, "kind": "regular", "is_best": False, "pinned": False}
    content = {"tags": "[]", "metadata": "{}", "digest": "", "size_bytes": 1 << (number % 40)}
    times = {"created_at": to_text(created_at), "removed_at": to_text(removed_at) if removed_at else None}
    gone = {"removed_because": "pruned" if removed_at else None, "freed": removed_at is not None, "trashed": False}
    return who | place | content | times | gone


def some_rows(chance):
    """Make checkpoints of twelve directories within two months; some removed, one saved in the future."""
    for number in range(1, 400):
        created_at = NOW - timedelta(days=60) * chance.random()
        removed_at = created_at + timedelta(days=20) * chance.random() ** 4 if chance.random() < 0.7 else None
        yield row(number, f"team/{chance.randrange(12):02}", created_at, removed_at if number % 9 else None)
    yield row(400, "team/00", NOW - timedelta(days=3), NOW - timedelta(days=4))
    yield row(401, "team/01", NOW + timedelta(days=1), None)
    yield row(402, "teams", NOW - timedelta(days=2), None)


def held_at(rows, at):
    at = to_text(at)
    return sum(
        row["size_bytes"]
        for row in rows
        if row["created_at"] < at and not (row["removed_at"] and max(row["created_at"], row["removed_at"]) < at)
    )


@pytest.mark.parametrize("span", list(timeline.LENGTHS))
def test_lines_show_the_bytes_of_each_directory(tmp_path, span):
    rows = list(some_rows(random.Random(3)))
    with closing(open_root(Settings(root=tmp_path / "root"), clock=lambda: NOW)) as service:
        with service.context.catalog.writing() as session:
            session.connection.execute(insert(schema.checkpoints), rows)
            session.checkpoints.count_all_anew()
        found = service.usage.history("team", span)
    here = [row for row in rows if row["directory"] != "teams"]
    names = [name for name, _ in found.directories]
    assert len(names) == len(set(names)) == MOST_LINES
    of = {name: [row for row in here if row["directory"] == name] for name in names}
    others = [row for row in here if row["directory"] not in names]
    for index, at in enumerate(found.at[:-1]):
        assert [values[index] for _, values in found.directories] == [held_at(of[name], at) for name in names], at
        assert found.others[index] == held_at(others, at)
    live = {name: sum(row["size_bytes"] for row in of[name] if not row["removed_at"]) for name in names}
    assert {name: values[-1] for name, values in found.directories} == live
    assert list(live.values()) == sorted(live.values(), reverse=True)
    assert found.others[-1] == sum(row["size_bytes"] for row in others if not row["removed_at"])


AGES_S = (60, 5 * 3600, 3 * 86400, 70 * 86400)
"""The ages of roots whose steps are seconds, minutes, and so on."""
DIRECTORIES = (*(f"team/{number:02}" for number in range(10)), "team", "teams")
ROW = ("directory", "size_bytes", "created_at", "removed_at", "removed_because")
PICK = st.integers(0, 50)
TIME = st.floats(-0.1, 1) | st.tuples(st.sampled_from([*WINDOWS.values()]), st.integers(-12, 12))
"""The age of a change as a share of the root's, or so many minutes before the end of a window. Some are in future."""
CHANGES = st.one_of(
    st.tuples(st.just("save"), st.integers(0, 11), TIME),
    st.tuples(st.just("save"), st.integers(0, 11), TIME),
    st.tuples(st.just("remove"), PICK, TIME, st.sampled_from(REASONS)),
    st.tuples(st.just("replace"), PICK, TIME),
    st.tuples(st.just("clear"), st.integers(0, 11), TIME),
    st.tuples(st.sampled_from(["free", "restore", "forget"]), PICK),
)


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with closing(open_root(Settings(root=tmp_path_factory.mktemp("timeline") / "root"), clock=lambda: NOW)) as opened:
        yield opened


@settings(max_examples=100, deadline=None)
@given(age_s=st.sampled_from(AGES_S), changes=st.lists(CHANGES, min_size=5, max_size=50))
def test_any_history_is_shown_as_its_rows_count(service, age_s, changes):
    with service.context.catalog.writing() as session:
        session.connection.execute(delete(schema.checkpoints))
        session.checkpoints.count_all_anew()
        session.events.add("checkpoint.saved", at=NOW, directory="team")  # or the reports would be those before
    ids = []
    for change in changes:
        with service.context.catalog.writing() as session:
            make(session.checkpoints, age_s, ids, change)
    columns = [schema.checkpoints.c[name] for name in ROW]
    with service.context.catalog.reading() as session:
        rows = [dict(row) for row in session.connection.execute(select(*columns)).mappings()]
    for prefix, of in (("", rows), ("team", [row for row in rows if row["directory"] != "teams"])):
        for span in timeline.LENGTHS:
            compare(service.usage.history(prefix, span), of)
        assert service.usage.removed(prefix) == removals(of)


def make(rows, age_s, ids, change):
    """Make one change, at the time that it says, of one of the checkpoints that there are."""
    what, which, *how = change
    at = time_of(how[0], age_s) if how else NOW
    if what == "save":
        add(rows, DIRECTORIES[which], ids, at)
    elif what == "clear":
        for one in rows.live(DIRECTORIES[which]):
            rows.mark_removed(one, "deleted", at)
    elif ids and (known := rows.get(ids[which % len(ids)])) is not None:
        if what == "remove" and known.removed_at is None:
            rows.mark_removed(known, how[1], at)
        elif what == "replace" and known.removed_at is None:
            rows.mark_removed(known, "replaced", at)
            add(rows, known.directory, ids, at)
        elif what == "free" and known.removed_at is not None:
            rows.mark_gone(known.id)
        elif what == "restore" and known.removed_at is not None and not known.freed:
            rows.mark_restored(known)
        elif what == "forget":
            rows.forget_freed([known.id])


def time_of(age, age_s):
    if isinstance(age, float):
        return NOW - timedelta(seconds=age_s) * age
    window, minutes = age
    return NOW - window - timedelta(minutes=minutes)


def add(rows, directory, ids, at):
    one = checkpoint(len(ids) + 1, directory=directory, size_bytes=1 << len(ids) % 40, at=at)
    rows.add(Manifest(one, {file.path: FileMap((Chunk(1, "0" * 64),)) for file in one.files}))
    ids.append(one.id)


def compare(found, rows):
    """Compare a history with a plain count of the rows."""
    assert [name for name, _ in found.directories] == named(rows, found.at[0])
    of = {name: [row for row in rows if row["directory"] == name] for name, _ in found.directories}
    others = [row for row in rows if row["directory"] not in of]
    for index, at in enumerate(found.at[:-1]):
        assert [values[index] for _, values in found.directories] == [held_at(each, at) for each in of.values()]
        assert found.others[index] == held_at(others, at)
    assert [values[-1] for _, values in found.directories] == [live(each) for each in of.values()]
    assert found.others[-1] == live(others)


def named(rows, start):
    """The directories with a line of their own: those that hold most, or did, of those that held anything since."""
    since = to_text(start)[: rollups.CHARACTERS]
    shown = {row["directory"] for row in rows if row["removed_at"] is None or row["removed_at"] >= since}
    of = {name: [row for row in rows if row["directory"] == name] for name in shown}
    return sorted(of, key=lambda name: (-live(of[name]), -sum(row["size_bytes"] for row in of[name]), name))[
        :MOST_LINES
    ]


def live(rows):
    return sum(row["size_bytes"] for row in rows if row["removed_at"] is None)


def removals(rows):
    found = {}
    for because in REASONS:
        if of := [row for row in rows if row["removed_because"] == because]:
            since = [[row for row in of if row["removed_at"] >= to_text(NOW - window)] for window in WINDOWS.values()]
            found[because] = [Totals(len(each), sum(row["size_bytes"] for row in each)) for each in (of, *since)]
    return found
