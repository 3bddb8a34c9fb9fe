"""A prune after a commit removes what the pure judge would, whatever came between, and reads what has changed alone."""

import itertools
import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import event

from app.catalog import Catalog, ListFilter
from app.catalog.reports import judgement
from app.core import retention
from app.core.models import Directory, Facts, FileMap, Manifest, Policy
from app.service.commit.prune import prune
from tests.data.histories import new_directory
from tests.data.samples import AT, checkpoint

PICK = st.integers(0, 50)
"""Picks one of those that there are, by its remainder."""
FACTS = st.builds(
    Facts,
    kind=st.sampled_from(["regular", "regular", "best"]),
    epoch=st.none() | st.integers(0, 12),
    metric=st.sampled_from([None, None, 0.0, -0.0, 0.5, 0.5, -0.5, 2.0, math.nan, math.inf]),
    is_best=st.booleans(),
    pinned=st.sampled_from([True, *[False] * 7]),
)
LIMIT = st.integers(0, 4)
POLICIES = st.one_of(
    st.builds(Policy, st.sampled_from(["min", "max"]), LIMIT, LIMIT),
    st.builds(
        Policy, st.sampled_from(["min", "max"]), LIMIT | st.none(), LIMIT | st.none(), st.none() | LIMIT.filter(bool)
    ),
)
SAVE = st.tuples(st.just("save"), FACTS, st.sampled_from([0, 0, 0, 1, 4]), st.sampled_from([False, False, True]))
OTHER = st.one_of(
    st.tuples(st.just("save again"), PICK, FACTS),
    st.tuples(st.just("change"), PICK, FACTS),
    st.tuples(st.just("delete"), PICK),
    st.tuples(st.just("restore"), PICK),
)
RARE = st.one_of(
    st.tuples(st.just("adopt"), FACTS),
    st.tuples(st.just("order"), POLICIES),
    st.tuples(st.just("ask"), POLICIES),
    st.tuples(st.just("ask"), POLICIES.map(lambda policy: replace(policy, max_checkpoints=1))),
)
OFTEN = st.sampled_from([SAVE, SAVE, SAVE, SAVE, OTHER]).flatmap(lambda kind: kind)
STEPS = st.tuples(st.lists(OFTEN, min_size=4, max_size=12), st.lists(RARE, max_size=2), st.lists(OFTEN, max_size=16))


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    opened = Catalog(f"sqlite:///{tmp_path_factory.mktemp('catalog') / 'catalog.db'}")
    yield opened
    opened.close()


class History:
    """A directory that is saved to and changed as the use cases do it; each prune is compared with the judge's."""

    def __init__(self, session, policy):
        self.session = session
        self.directory = Directory(new_directory(), AT, policy=policy)
        session.directories.put(self.directory)
        self.asked = None
        self.pruned = 0

    @property
    def live(self):
        return list(self.session.checkpoints.live(self.directory.name))

    @property
    def removed(self):
        wanted = ListFilter(self.directory.name, include_removed=True)
        shown = self.session.checkpoints.page(wanted, after=None, limit=1000).checkpoints
        return [one for one in shown if one.removed_at is not None]

    def take(self, step):
        kind, *said = step
        getattr(self, kind.replace(" ", "_"))(*said)

    def save(self, facts, late, replaces):
        number = self.directory.sequence + 1
        made = checkpoint(number, saved_after=max(0, number - 1 - late), directory=self.directory.name, facts=facts)
        if replaces and self.live:
            old = self.live[number % len(self.live)]
            self.session.checkpoints.mark_removed(old, "replaced", AT)
            made = replace(made, name=old.name, files=(replace(made.files[0], path=old.name),))
        self.session.checkpoints.add(manifest(made))
        self.commit(made)

    def save_again(self, pick, facts):
        if one := picked(self.live, pick):
            number = self.directory.sequence + 1
            again = replace(one, facts=facts, sequence=number, saved_after=number - 1)
            self.session.checkpoints.save_again(again, None)
            self.commit(again)

    def commit(self, made):
        policy = self.asked or self.directory.policy
        self.asked = None
        before = self.session.directories.judged(self.directory.name)
        self.directory = replace(self.directory, sequence=made.sequence, policy=policy)
        self.session.directories.put(self.directory)
        verdicts = retention.judge(self.live, policy)
        removed = prune(self.session, self.directory, before, [made.id], AT)
        assert [one.id for one in removed] == [each.checkpoint.id for each in verdicts if not each.stays]
        assert {one.id for one in self.live} == {each.checkpoint.id for each in verdicts if each.stays}
        self.pruned += len(removed)

    def change(self, pick, facts):
        if one := picked(self.live, pick):
            self.session.checkpoints.change(replace(one, facts=facts))

    def delete(self, pick):
        if one := picked(self.live, pick):
            self.session.checkpoints.mark_removed(one, "deleted", AT)

    def restore(self, pick):
        names = {one.name for one in self.live}
        one = picked([one for one in self.removed if one.name not in names], pick)
        if one is None:
            return
        restored = replace(one, removed_at=None, removed_because=None)
        self.session.checkpoints.mark_restored(restored)
        verdicts = retention.judge(self.live, self.directory.policy)
        stays = next(each.stays for each in verdicts if each.checkpoint.id == one.id)
        connection, policy = self.session.connection, self.directory.policy
        assert judgement.would_stay(connection, self.directory.name, policy, one.id) == stays
        if not stays and pick % 2:  # as of a row that was left without a reason
            self.session.checkpoints.mark_restored(replace(restored, facts=replace(one.facts, pinned=True)))

    def adopt(self, facts):
        number = self.directory.sequence + 1
        self.directory = replace(self.directory, sequence=number)
        self.session.directories.put(self.directory)
        self.session.checkpoints.add(manifest(checkpoint(number, directory=self.directory.name, facts=facts)))

    def order(self, policy):
        self.directory = replace(self.directory, policy=policy)
        self.session.directories.put(self.directory)

    def ask(self, policy):
        self.asked = policy


def manifest(made):
    return Manifest(made, {file.path: FileMap(()) for file in made.files})


def picked(some, pick):
    return some[pick % len(some)] if some else None


@pytest.fixture(
    scope="module",
    params=[(0, judgement.NEAR), (4, 0), (judgement.FEW, judgement.NEAR)],
    ids="few are {0[0]}, near are {0[1]}".format,
)
def few_and_near(request):
    """The numbers up to which a directory is read whole, and up to which a limit is looked for without counting."""
    before = judgement.FEW, judgement.NEAR
    judgement.FEW, judgement.NEAR = request.param
    yield
    judgement.FEW, judgement.NEAR = before


@settings(max_examples=70)
@given(policy=POLICIES, steps=STEPS)
def test_whatever_happened_a_save_removes_what_the_judge_says(catalog, few_and_near, policy, steps):
    with catalog.writing() as session:
        history = History(session, policy)
        for step in itertools.chain(*steps):
            history.take(step)


class RowsRead:
    """Counts the rows that the catalog reads within a block."""

    def __init__(self, session):
        self._engine = session.connection.engine
        self.count = 0

    def __enter__(self):
        event.listen(self._engine, "before_cursor_execute", self._note)
        return self

    def __exit__(self, *_):
        event.remove(self._engine, "before_cursor_execute", self._note)

    def _note(self, connection, cursor, statement, parameters, context, many):
        if statement.startswith("SELECT"):
            (rows,) = cursor.connection.execute(f"SELECT count(*) FROM ({statement})", parameters).fetchone()
            self.count += rows


class InstructionsRun:
    """Counts the instructions of SQLite's virtual machine that the catalog runs within a block, in tens."""

    def __init__(self, session):
        self._connection = session.connection.connection.driver_connection
        self.count = 0

    def __enter__(self):
        self._connection.set_progress_handler(self._note, 10)
        return self

    def __exit__(self, *_):
        self._connection.set_progress_handler(None, 0)

    def _note(self):
        self.count += 1
        return 0


@pytest.mark.parametrize(
    "policy",
    [
        pytest.param(Policy("min", 3, 2), id="few stay"),
        pytest.param(Policy("max", None, 2), id="all regular ones stay"),
        pytest.param(Policy("min", 3, None), id="all ranked ones stay"),
        pytest.param(Policy("max", 3, 2, 1), id="all stay by their epochs"),
    ],
)
def test_a_prune_reads_no_more_rows_in_a_large_directory(catalog, policy):
    read = {}
    for count in (100, 300):
        with catalog.writing() as session:
            history = History(session, policy)
            facts = [Facts(epoch=n, metric=float(n % 7), pinned=n % 2 == 0) for n in range(count)]
            for each in facts[:-1]:
                history.adopt(each)
            history.save(facts[-1], 0, False)
            made = checkpoint(count + 1, directory=history.directory.name, metric=3.0)
            before = session.directories.judged(history.directory.name)
            session.checkpoints.add(manifest(made))
            with RowsRead(session) as rows:
                prune(session, history.directory, before, [made.id], AT)
            assert len(history.live) > count // 3
            read[count] = rows.count
    assert 0 < read[300] == read[100] < 30


@pytest.mark.parametrize(
    "policy",
    [
        pytest.param(Policy("min", 10_000_000, 2), id="all regular ones stay"),
        pytest.param(Policy("max", 299, 2), id="the last ones stay"),
        pytest.param(Policy("min", 3, None), id="all ranked ones stay"),
    ],
)
def test_the_first_prune_of_a_large_directory_leaves_out_what_stays(catalog, policy):
    """Such as the first one after a migration, or after an operator has changed the policy."""
    with catalog.writing() as session:
        history = History(session, policy)
        for number in range(300):
            history.adopt(Facts(epoch=number, metric=float(number), pinned=number % 2 == 0))
        made = checkpoint(301, directory=history.directory.name, metric=0.0)
        history.directory = replace(history.directory, sequence=301)
        session.directories.put(history.directory)
        session.checkpoints.add(manifest(made))
        verdicts = retention.judge(history.live, policy)
        with RowsRead(session) as rows:
            removed = prune(session, history.directory, None, [made.id], AT)
        assert [one.id for one in removed] == [each.checkpoint.id for each in verdicts if not each.stays]
        assert judgement.FEW < rows.count < judgement.FEW + 30


def test_limits_that_no_checkpoint_reaches_cost_the_same_in_a_large_directory(catalog):
    """The number of rows that a statement returns does not show this: a boundary is counted within the index."""
    steps = {}
    for count in (judgement.FEW + 8, 2000):
        with catalog.writing() as session:
            history = History(session, Policy("min", 10_000_000, 10_000_000))
            adopted = [
                checkpoint(number, directory=history.directory.name, metric=float(number)) for number in range(1, count)
            ]
            session.checkpoints.add(*map(manifest, adopted))
            session.checkpoints.mark_judged(history.directory.name)
            history.directory = replace(history.directory, sequence=count)
            session.directories.put(history.directory)
            before = judgement.judge(session.connection, history.directory.name, history.directory.policy, None)
            made = checkpoint(count, directory=history.directory.name, metric=3.0)
            session.checkpoints.add(manifest(made))
            with InstructionsRun(session) as ran:
                assert prune(session, history.directory, before.boundaries, [made.id], AT) == []
            steps[count] = ran.count
    assert steps[2000] < 1.5 * steps[judgement.FEW + 8]


def test_a_directory_that_keeps_everything_reads_nothing(catalog):
    with catalog.writing() as session:
        history = History(session, Policy("min"))
        history.save(Facts(metric=1.0), 0, False)
        with RowsRead(session) as rows:
            assert prune(session, history.directory, None, [], AT) == []
    assert rows.count == 0
