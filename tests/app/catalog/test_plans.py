"""The catalog answers each query through the index that is meant for it, whatever it holds and SQLite knows of that."""

import re
import shutil
import sqlite3
from contextlib import closing

import pytest

from app.catalog import Catalog
from tests.app.catalog.tour import recorded
from tests.data.histories import keep
from tests.data.samples import AT, checkpoint

HERE = r"directory = \? AND removed_at IS NULL"
REMOVED = r"directory = \? AND removed_at IS NOT NULL"
NUMBERS = r"numbers\.directory = \? AND NOT numbers\.removed"
PLANS = [
    # A pattern of a statement, and one of the indexes of its plan; the first pattern that is found counts.
    # A number stands for a primary key or a unique constraint, SCAN for an index that is read from end to end.
    #
    # the values of a listing by metadata, and what its filters look at
    (rf"FROM numbers .*{NUMBERS}.* ORDER BY numbers", r"numbers_by_value( checkpoints 1)?( tags 1)?"),
    # usage over time: rollups; and the checkpoints of a few minutes, or of the hours since a young root began
    (r"GROUP BY anon_1\.removed_because$", r"subquery freed_by_removal unfreed SORT"),
    (r"^SELECT anon_1\.directory, anon_1\.bucket", r"subquery by_creation freed_by_removal unfreed SORT"),
    (r"FROM checkpoints( WHERE \(directory \|\| \?\) = .*)? ORDER BY created_at", r"SCAN by_creation"),
    (
        r"FROM directory_counters WHERE .*EXISTS \(SELECT .* FROM usage_rollups",
        r"(SCAN )?directory_counters( 1 directory_counters 1)? usage_rollups 1 SORT",
    ),
    (r"FROM usage_rollups, directory_counters", r"directory_counters 1 directory_counters 1 usage_rollups 1( SORT)?"),
    (r"usage_rollups\.directory (= \?|IN \(.*\)) AND usage_rollups\.bucket >?=? ", r"usage_rollups 1( SORT)?"),
    # live checkpoints of a directory, in each order
    # how many of them there are, up to a limit; and those that were changed
    (rf"^SELECT count.* FROM \(SELECT .*kind = \? AND {HERE} LIMIT", r"subquery live_by_kind"),
    (rf"^SELECT count.* FROM \(SELECT .*{HERE} AND metric IS NULL .*is_best LIMIT", r"subquery live_flagged"),
    (
        rf"^SELECT count.* FROM \(SELECT .*{HERE} AND metric IS NOT NULL( AND metric > \?)? LIMIT",
        r"subquery live_by_metric",
    ),
    (r"directory = \? AND unjudged$", r"unjudged"),
    (rf"{HERE} AND retention = 'manual' LIMIT", r"live_manual"),
    # the tree: directories by one seek for each, checkpoints with the file of their name, the files of a folder
    (
        r"^WITH RECURSIVE walk",
        r"subquery (live_by_\w+|one_live_name) SCAN walk (live_by_\w+|one_live_name) SCAN walk SORT",
    ),
    (r"FROM checkpoints LEFT OUTER JOIN files .*removed_at IS NULL AND directory = ", r"one_live_name files 1 files 1"),
    (r"FROM files WHERE files\.checkpoint_id = \? AND files\.path >= ", r"files 1"),
    (rf"{HERE} AND name = |name = \? AND ({HERE}|removed_at IS NULL)", r"one_live_name( SORT)?"),
    (rf"kind = \? AND {HERE} AND metric IS NULL .* is_best\b.* ORDER BY saved_after", r"live_(by_kind|flagged)"),
    (rf"{HERE} AND metric IS NULL .* is_best\b.* ORDER BY saved_after", r"live_flagged( tags 1)?"),
    (rf"{HERE} AND metric IS (NOT )?NULL .*ORDER BY (metric|saved_after)", r"live_by_metric( tags 1)?"),
    (rf"{HERE} AND (epoch|step) IS (NOT )?NULL .*ORDER BY (epoch|step|saved_after)", r"live_by_(epoch|step)"),
    (rf"{HERE} .*ORDER BY size_bytes", r"live_by_size"),
    (rf"{HERE} .*ORDER BY created_at", r"live_by_time"),
    (rf"{HERE} .*ORDER BY name", r"one_live_name"),
    (rf"kind = \? AND {HERE} .*ORDER BY saved_after", r"live_by_kind"),
    (rf"^SELECT count.*{HERE} .*ORDER BY saved_after", r"subquery live_by_position"),
    (rf"{HERE} .*ORDER BY saved_after", r"live_by_position( tags 1)?"),
    # all checkpoints of a directory: by position from an index, sorted in any other order
    (
        rf"{REMOVED} .*ORDER BY saved_after|metric IS NOT NULL AND removed_at IS NOT NULL ORDER BY",
        r"removed_by_position",
    ),
    (r"metric IS NOT NULL AND removed_at IS NULL ORDER BY saved_after", r"live_by_position"),
    (r"FROM numbers JOIN checkpoints .*\"key\" = \? AND directory = \? ", r"checkpoints 2 numbers 1 SORT"),
    (r"FROM checkpoints WHERE directory = \? .*ORDER BY", r"checkpoints 2 SORT"),
    (r"FROM numbers JOIN checkpoints .*directory = \? AND sequence > \? ORDER BY", r"checkpoints 2 numbers 1 SORT"),
    (r"FROM checkpoints WHERE directory = \?$", r"checkpoints 2"),  # the largest sequence
    # figures of a directory or a prefix, which visit no rows of checkpoints
    (r"directory_counters\.directory (= \?$|IN \()", r"directory_counters 1"),
    (r"^DELETE FROM directory_counters WHERE directory_counters\.directory = \? AND", r"directory_counters 1"),
    (
        r"FROM directories LEFT OUTER JOIN directory_counters",
        r"(SCAN )?directories( 1)?( directories 1)? directory_counters 1( SORT)?",
    ),
    # the first checkpoints and the last metrics of some directories
    (
        r"^SELECT directories\.name, \(SELECT id ",
        r"(SCAN )?directories( 1)? live_by_position live_by_metric( live_by_metric)? live_flagged",
    ),
    (r"^SELECT directories\.name, \(SELECT metric ", r"(SCAN )?directories( 1)? live_by_metric live_by_metric"),
    (
        r"FROM directories JOIN checkpoints .*sequence > directories\.sequence",
        r"(SCAN )?directories( 1)? checkpoints 2",
    ),
    (r"directory_counters\.directory = \? OR ", r"(SCAN )?directory_counters( 1 directory_counters 1)?( SORT)?"),
    (r"FROM directory_counters WHERE ", r"SCAN directory_counters( SORT)?"),
    (rf"{HERE} LIMIT", r"live_by_\w+|one_live_name"),
    (r"removed_at IS NOT NULL AND NOT freed AND trashed IS \d AND directory = ", r"unfreed_by_name"),
    (r"directory = \? AND removed_at IS NOT NULL AND NOT freed", r"unfreed_by_name"),
    (r"removed_at IS NOT NULL AND NOT freed", r"(SCAN )?unfreed"),
    (r"removed_at IS NULL AND \(verified_at", r"SCAN by_verification"),
    (r"removed_at IS NULL AND manifest_stale", r"stale_manifests"),
    # rows that are due for their age, the oldest first
    (r"FROM (audit|events) ORDER BY \w+\.id\n? LIMIT", r"SCAN (audit|events)"),
    (r"freed AND removed_at < \? ORDER BY removed_at", r"freed_by_removal"),
    (r"saves\.superseded_at < \? ORDER BY", r"superseded_saves"),
    (r"^DELETE FROM (audit|events) WHERE \w+\.id <= \?$", r"(SCAN )?(audit|events)(_of_directory)?"),
    (r"^DELETE FROM saves WHERE saves\.upload_id IN", r"saves 2|SCAN saves"),
    (r"FROM (audit|events) WHERE \w+\.id = \?$", r"audit|events"),
    (r"(FROM|UPDATE) (horizons|metric_history) .*WHERE \w+\.(subject|directory) = \?", r"\w+ 1"),
    (r"^UPDATE trimmed_totals ", r"trimmed_totals 1"),
    (r"^UPDATE saves .* WHERE saves\.directory = \? AND saves\.save_id = \?$", r"saves 1"),
    # one row by its id or its name, and what belongs to it
    (r"FROM checkpoints LEFT OUTER JOIN files .*WHERE id = \?", r"checkpoints 1 files 1"),
    (r"checkpoints .*WHERE id (= \?|IN \()", r"checkpoints 1"),
    (r"(files|numbers|tags) .*WHERE \w+\.checkpoint_id (= \?|IN \()", r"(files|numbers|tags) 1( SORT)?"),
    (r"directories .*WHERE directories\.name = \?$", r"directories 1"),
    (r"saves WHERE saves\.(directory = \? AND saves\.save_id|upload_id) ", r"saves \d( subquery)?"),
    (r"(FROM|UPDATE) shared_(files|writers) .*WHERE shared_\w+\.upload_id = \?", r"shared_(files|writers) 1( SORT)?"),
    (r"FROM uploads WHERE uploads\.id > \? ", r"uploads 1|(uploads_by_position ){1,2}SORT"),
    (r"uploads .*WHERE uploads\.(id = \?|directory = \? AND uploads\.save_id)", r"uploads \d"),
    (r"FROM uploads WHERE uploads\.directory = \?", r"uploads_by_position|SCAN uploads"),
    (r"FROM uploads WHERE uploads\.token_id = \?", r"uploads_of_token"),
    (r"FROM (sessions|tokens) WHERE \w+\.(id|hash) = \?", r"\w+ 1"),
    # the newest lines of a journal
    (
        r"FROM (audit|events)( WHERE \w+\.id [<>] \?.* ORDER BY \w+\.id .*)?$",
        r"(audit|events)(_of_directory)?|SCAN events",
    ),
    (
        r"FROM \(SELECT events\.id .*events\.directory > \? AND events\.directory < \? LIMIT",
        r"subquery events_of_directory",
    ),
    (r"events WHERE events\.id IN \(SELECT", r"events( subquery events_of_directory){2} SORT"),
    # all rows of small tables
    (r"FROM trimmed_totals WHERE", r"(SCAN )?trimmed_totals( 1)?( trimmed_totals 1)?( SORT)?"),
    (r"FROM tokens\) .* FROM sessions\) ", r"(SCAN (tokens|sessions)( 1)? ?){3}"),
    (r"FROM directories WHERE \(?directories\.", r"(SCAN )?directories( 1)?( directories 1)?( SORT)?"),
    (r"FROM uploads WHERE uploads\.(directory|expires_at) ", r"SCAN uploads(_by_position)?( SORT)?"),
    (r"FROM (link_keys|root_marks|tokens)\b", r"SCAN \w+( 1)?( SORT)?"),
]


@pytest.fixture(scope="module")
def toured(tmp_path_factory):
    return recorded(tmp_path_factory.mktemp("tour"))


@pytest.fixture(params=["empty", "small", "large"])
def database(toured, request, tmp_path):
    """A catalog that is empty, that the tour has left behind, or that holds many checkpoints, live and removed."""
    path = tmp_path / "catalog.db"
    if request.param != "empty":
        shutil.copy(toured[1], path)
    catalog = Catalog(f"sqlite:///{path}")
    for directory in ("runs/a", "runs/b", "other") if request.param == "large" else ():
        kept = keep(catalog, [made(number) for number in range(1001, 1401)], directory)
        with catalog.writing() as session:
            for one in kept[:300]:
                session.checkpoints.mark_removed(one, "pruned", AT)
    catalog.close()
    with closing(sqlite3.connect(path)) as connection:
        yield connection


def made(number):
    metric = None if number % 3 else number / 10
    return checkpoint(number, epoch=number, metric=metric, is_best=number % 5 == 0, metadata={"loss": number / 10})


def expected(statement):
    """The plan that is meant for a statement; None if no line says so."""
    text = statement.replace("checkpoints.", "")
    return next((plan for pattern, plan in PLANS if re.search(pattern, text)), None)


def plan(connection, statement, parameters):
    """The tables and indexes that SQLite uses, in order."""
    words = []
    for *_, line in connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters):
        words += step(re.sub(r" \(.*", "", line))
    return " ".join(words)


def step(line):
    if match := re.match(r"(SEARCH|SCAN) (\w+)(?: USING (?:COVERING )?(?:INDEX (\w+)|(PRIMARY)))?", line):
        how, table, index, primary = match.groups()
        if table.startswith(("anon", "CONSTANT")):
            return []
        name = f"{table} 1" if primary else re.sub(r"sqlite_autoindex_(\w+)_(\d)", r"\1 \2", index or table)
        return ["SCAN", name] if how == "SCAN" or (index is None and "USING" not in line) else [name]
    return {"USE TEMP": ["SORT"], "CO-ROUTI": ["subquery"]}.get(line[:8], [])


def test_there_is_a_line_for_each_statement_of_the_tour(toured):
    statements, _ = toured
    assert [statement for statement in statements if expected(statement) is None] == []
    assert len(statements) > 200


@pytest.mark.parametrize("is_analysed", [False, True], ids=["as it is", "analysed"])
def test_each_statement_goes_by_the_index_that_is_meant(toured, database, is_analysed):
    if is_analysed:
        database.execute("ANALYZE")
    wrong = []  # a report may go by any index once SQLite has counted the rows
    for shape, (statement, parameters) in toured[0].items():
        found = plan(database, statement, parameters)
        is_report = is_analysed and re.search("SCAN|SORT", expected(shape) or "")
        if not is_report and not re.fullmatch(expected(shape) or "", found):
            wrong.append(f"{shape}: {found}, not {expected(shape)}")
    assert not wrong, "\n".join(wrong)


COUNTED = "|".join(
    [
        r"^SELECT count\(\*\) AS \w+ FROM \(SELECT .* LIMIT",  # up to a limit
        r"kind = \? AND .*\(saved_after, sequence\) >=",  # the regular ones before a page of verdicts
        r"NOT freed AND trashed IN \(.*\) AND removed_at <= \?",  # the few that are about to be purged
        r"removed_at >= \? AND removed_at < \?.* GROUP BY anon_1\.removed_because$",  # removed in ten minutes
        r"^SELECT anon_1\.directory, anon_1\.bucket, .* created_at >= \?",  # since a young root began
        r"FROM files",
    ]
)
"""The statements that may count checkpoints, or sum up over them."""


def test_nothing_that_is_shown_of_a_directory_counts_its_checkpoints(toured):
    statements = [" ".join(statement.replace("checkpoints.", "").split()) for statement, _ in toured[0].values()]
    counting = [each for each in statements if re.search(r"(count|sum)\(.* FROM .*\bcheckpoints\b", each)]
    assert [each for each in counting if not re.search(COUNTED, each)] == []
    assert counting


def test_no_index_is_there_for_nothing(toured):
    """Each costs every save a page."""
    with closing(sqlite3.connect(toured[1])) as connection:
        plans = [plan(connection, *each) for each in toured[0].values()]
        rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL")
        unused = {name for (name,) in rows} - {word for each in plans for word in each.split()}
    assert unused <= {"saves_of_checkpoint", "audit_of_directory"}
