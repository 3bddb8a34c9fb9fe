"""A prune after a save that has not come yet is the one that follows it, and asking writes nothing."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import event

from app.catalog import Catalog
from app.catalog.reports import expected_prune, judgement
from app.core.models import FileMap, Manifest
from tests.app.catalog.test_ranks import POLICIES
from tests.data.histories import keep, new_directory
from tests.data.samples import AT, FACTS, checkpoint, histories


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    opened = Catalog(f"sqlite:///{tmp_path_factory.mktemp('catalog') / 'catalog.db'}")
    yield opened
    opened.close()


@settings(max_examples=80, deadline=None)
@given(
    history=histories(),
    policy=POLICIES,
    facts=FACTS,
    late=st.sampled_from([0, 0, 1, 3]),
    replaced=st.none() | st.integers(0, 9),
    changed=st.none() | st.tuples(st.integers(0, 9), FACTS),
    is_judged=st.booleans(),
    is_counted=st.booleans(),
)
def test_what_is_expected_is_what_happens(
    catalog, history, policy, facts, late, replaced, changed, is_judged, is_counted
):
    directory, before = new_directory(), None
    keep(catalog, history, directory)
    with catalog.writing() as session:
        if is_judged:
            found = judgement.judge(session.connection, directory, policy, None)
            before = found.boundaries
            for row in found.going:
                session.checkpoints.mark_removed(session.checkpoints.get(row.id), "pruned", AT)
            session.checkpoints.mark_judged(directory)
        live = session.checkpoints.live(directory)
        if live and changed is not None:
            one = live[changed[0] % len(live)]
            session.checkpoints.change(replace(one, facts=changed[1]))
            live = session.checkpoints.live(directory)
    old = live[replaced % len(live)] if live and replaced is not None else None
    number = len(history) + 1
    new = checkpoint(number, directory=directory, saved_after=max(0, number - 1 - late), facts=facts, size_bytes=7)
    with catalog.reading() as session:
        statements = []
        event.listen(session.connection, "before_cursor_execute", lambda *given: statements.append(given[2]))
        count = len(live) if is_counted else None
        expected = expected_prune.going(session.connection, directory, policy, before, new, old, live_count=count)
    assert {each.split()[0] for each in statements} <= {"BEGIN", "SELECT"}
    with catalog.writing() as session:
        if old is not None:
            session.checkpoints.mark_removed(old, "replaced", AT)
        session.checkpoints.add(Manifest(new, {file.path: FileMap(()) for file in new.files}))
        real = judgement.judge(session.connection, directory, policy, before, [new.id]).going
    assert {(row.id, row.size_bytes) for row in expected} == {(row.id, row.size_bytes) for row in real}
