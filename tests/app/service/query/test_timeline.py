"""Timelines: the steps of each span, and the bytes at each step compared with a plain count."""

import random
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import insert

from app.bootstrap import open_root
from app.catalog.reports import history
from app.catalog.tables import schema
from app.catalog.tables.times import to_text
from app.service.query import timeline
from app.service.query.usage import MOST_LINES
from app.settings import Settings

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
    values = timeline.line(steps, 7, [(steps.start, 10), (steps.at[1], -4), (late, 100)])
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
    with closing(open_root(Settings(root=tmp_path / "root"), clock=lambda: NOW)) as checkpoints:
        with checkpoints.context.catalog.writing() as session:
            session.connection.execute(insert(schema.checkpoints), rows)
        found = checkpoints.usage.history("team", span)
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
