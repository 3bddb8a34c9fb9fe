"""Events of a prefix: found through an index, and the same that a scan finds."""

from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event

from app.bootstrap import utc_now
from app.catalog import Catalog
from app.catalog.rows import events as rows

NAMES = ["a", "a/b", "a/b/c", "a-b", "a0", "ab", "b"]


def add(catalog, directories):
    with catalog.writing() as session:
        for directory in directories:
            session.events.add("checkpoint.saved", at=utc_now(), directory=directory)


def is_within(name, prefix):
    return not prefix or name == prefix or name.startswith(f"{prefix}/")


@given(
    directories=st.lists(st.sampled_from(NAMES), max_size=30),
    prefix=st.sampled_from(["", *NAMES, "c"]),
    after=st.integers(0, 31),
    until=st.none() | st.integers(0, 31),
    limit=st.integers(1, 10),
    few=st.integers(0, 5),
)
def test_index_and_scan_find_the_same(directories, prefix, after, until, limit, few):
    most = 10**9 if until is None else until
    expected = [n for n, name in enumerate(directories, 1) if is_within(name, prefix) and after < n <= most][:limit]
    with closing(Catalog("sqlite://")) as catalog, pytest.MonkeyPatch.context() as patched:
        patched.setattr(rows, "FEW", few)
        add(catalog, directories)
        with catalog.reading() as session:
            found = session.events.after(after, prefix=prefix, until=until, limit=limit)
    assert [each.id for each in found] == expected


@pytest.mark.parametrize("directory", ["a", "a/b"])
def test_events_of_a_rare_prefix_are_found_without_a_look_at_the_others(directory, tmp_path):
    statements = []
    with closing(Catalog(f"sqlite:///{tmp_path}/catalog.db")) as catalog:
        add(catalog, ["x"] * 100 + [directory])
        with catalog.reading() as session:
            engine = session.connection.engine
            event.listen(engine, "before_cursor_execute", lambda *given: statements.append((given[2], given[3])))
            assert [each.id for each in session.events.after(0, prefix="a", limit=10)] == [101]
            plans = [
                session.connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values).all()
                for statement, values in statements[1:3]  # after BEGIN
            ]
    steps = [step[-1] for plan in plans for step in plan if "events" in step[-1]]
    assert len(steps) == 4
    found = ("COVERING INDEX events_of_directory (directory", "INTEGER PRIMARY KEY (rowid=?)")
    assert [step for step in steps if not any(each in step for each in found)] == []
