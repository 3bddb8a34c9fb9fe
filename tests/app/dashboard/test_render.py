"""Rendering: formats, trees of names, and thinning of long series."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.catalog.rows.directories import Totals
from app.core.models import Directory, Policy, Tensor
from app.dashboard.render import formatting, tensor_tree, urls
from app.dashboard.render.directory_tree import MOST_LEVELS, matching, tree
from app.dashboard.render.sparkline import sparkline, thinned
from app.service.query.overview import Overview

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def overview(name, count=1):
    return Overview(Directory(name, NOW), Totals(count, 10 * count), None, (), is_written=name.endswith("busy"))


def labels(nodes):
    return [(node.label, labels(node.below)) if node.below else node.label for node in nodes]


@pytest.mark.parametrize(
    ("names", "rows"),
    [
        pytest.param([], [], id="nothing"),
        pytest.param(["runs/a/checkpoints"], ["runs/a/checkpoints"], id="one alone is one row"),
        pytest.param(["runs/a", "runs/b"], [("runs", ["a", "b"])], id="two below one"),
        pytest.param(["a", "a-b", "a/x"], [("a", ["x"]), "a-b"], id="a name that sorts between a parent and its child"),
        pytest.param(["r/a/c", "r/a/d", "r/b/c"], [("r", [("a", ["c", "d"]), "b/c"])], id="two levels"),
    ],
)
def test_names_become_a_tree(names, rows):
    assert labels(tree(map(overview, names))) == rows


def test_a_row_sums_up_what_is_below():
    (top,) = tree([overview("r", 2), overview("r/a", 3), overview("r/b/busy", 5)])
    assert (top.count, top.size_bytes, top.directories, top.written) == (10, 100, 3, 1)


def depth(rows):
    return 1 + max((depth(row.below) for row in rows), default=0) if rows else 0


def test_no_name_is_so_deep_that_its_tree_cannot_be_drawn():
    components = ["a"] * 500
    rows = tree(overview("/".join(components[:length])) for length in range(1, 500))
    found = tensor_tree.search([tensor(".".join(components[:length])) for length in range(1, 500)], "")
    assert depth(rows) <= MOST_LEVELS + 1
    assert depth(found.modules) <= tensor_tree.MOST_LEVELS + 1
    assert rows[0].count == found.modules[0].count == 499


def test_every_word_is_searched_for():
    known = [Directory(name, NOW) for name in ("runs/ResNet/lr1", "runs/vit/lr1", "old/resnet")]
    assert [one.name for one in matching(known, "runs resnet")] == ["runs/ResNet/lr1"]
    assert matching(known, " ") == known


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=60))
@example([0.0, 5e-324])
@example([-1.7976931348623157e308, 1.7976931348623157e308])
def test_a_line_stays_in_its_box(values):
    points = [tuple(map(float, pair.split(","))) for pair in sparkline(tuple(values)).split()]
    assert len(points) == (len(values) if len(values) > 1 else 0)
    assert all(0 <= x <= 96 and 0 <= y <= 24 for x, y in points)


def test_the_greatest_is_at_the_top():
    assert [pair.split(",")[1] for pair in sparkline((1, 3, 2)).split()] == ["22.0", "2.0", "12.0"]


@given(st.lists(st.floats(allow_nan=False), max_size=400), st.integers(10, 50))
def test_a_long_series_keeps_its_ends_and_its_extremes(values, most):
    places = list(thinned(values, most))
    assert places == sorted(set(places))
    assert len(places) <= most
    if values:
        kept = [values[place] for place in places]
        assert (kept[0], kept[-1]) == (values[0], values[-1])
        assert (min(kept), max(kept)) == (min(values), max(values))


@pytest.mark.parametrize(
    ("count_bytes", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1234567, "1.2 MiB"),
        (2**20 - 1, "1.0 MiB"),
        (52_000_000_000, "48.4 GiB"),
        (2**70, "1048576.0 PiB"),
    ],
)
def test_sizes(count_bytes, text):
    assert formatting.size(count_bytes) == text


def test_metadata_shows_what_it_is_made_of():
    assert formatting.as_json({"b": [1, None, True]}) == '{"b": [1, null, true]}'
    assert formatting.as_json("a\u202eb\x1b[1m é\n한") == "a\\u202eb\\x1b[1m é\n한"


@given(st.lists(st.text(alphabet='ab,"; ', min_size=1).map(str.strip).filter(bool), unique=True))
def test_tags_read_as_they_were_written(tags):
    assert formatting.tags_in(formatting.tags(tags)) == tags


def test_tags_are_quoted_where_they_have_to_be():
    assert formatting.tags(["good", "a,b", 'the "best"']) == 'good, "a,b", "the ""best"""'
    assert formatting.tags_in(' good, for release,good ,, "a,b"') == ["good", "for release", "a,b"]
    assert formatting.tags_in('a\rb\nc\r\n"d') == ["a", "b", "c", "d"]


@given(st.text(max_size=30))
def test_any_text_is_some_tags(text):
    assert all(formatting.tags_in(text))


@pytest.mark.parametrize(
    ("passed_s", "text"),
    [
        (0, "just now"),
        (59, "59 s ago"),
        (125, "2 min ago"),
        (7300, "2 h ago"),
        (3 * 86400, "3 d ago"),
        (99 * 86400, "2025-09-24"),
    ],
)
def test_times(passed_s, text):
    assert formatting.ago(NOW - timedelta(seconds=passed_s), NOW) == text


@pytest.mark.parametrize(
    ("policy", "text"),
    [
        (Policy(), "keeps everything"),
        (Policy(max_checkpoints=3, max_best_checkpoints=2), "keeps the last 3, the best 2"),
        (Policy(max_checkpoints=3), "keeps the last 3, all with a metric"),
        (
            Policy(max_best_checkpoints=2, keep_every_epochs=10),
            "keeps all regular checkpoints, the best 2, every 10 epochs",
        ),
    ],
)
def test_policies(policy, text):
    assert formatting.policy(policy) == text


def test_other_words():
    assert [formatting.number(value) for value in (None, 3, 0.123456789, float("nan"), 1e-9)] == [
        "",
        "3",
        "0.12346",
        "nan",
        "1e-09",
    ]
    assert formatting.duration(timedelta(hours=24)) == "1 d"
    assert formatting.duration(timedelta(minutes=90)) == "90 min"
    assert formatting.shape(()) == "scalar"
    assert formatting.shape((96, 32)) == "96 × 32"


def tensor(name, size_bytes=4):
    return "f.pt", Tensor(name, "float32", (size_bytes // 4,), 0, size_bytes)


def modules(found):
    return [(one.label, one.count, one.size_bytes, modules(one.below)) for one in found]


def test_tensors_are_grouped_by_module():
    names = ["model.a.weight", "model.a.bias", "model.b.weight", "lr"]
    shown = tensor_tree.search([tensor(name, 8) for name in names], "")
    assert (shown.everything, shown.found, shown.size_bytes) == (4, 4, 32)
    (model, rate) = modules(shown.modules)
    assert model == ("model", 3, 24, [("a", 2, 16, [("weight", 1, 8, []), ("bias", 1, 8, [])]), ("b.weight", 1, 8, [])])
    assert rate == ("lr", 1, 8, [])


def test_tensors_are_searched_and_shares_stay_those_of_the_whole():
    shown = tensor_tree.search([tensor("a.weight", 8), tensor("a.bias", 4)], "BIAS")
    assert (shown.found, shown.everything, shown.size_bytes) == (1, 2, 12)
    assert tensor_tree.search(None, "") is None


def test_tensors_of_several_files_are_distinguished():
    shown = tensor_tree.search([("one.pt", tensor("w")[1]), ("two.pt", tensor("w")[1])], "")
    assert [one.label for one in shown.modules] == ["one.pt.w", "two.pt.w"]


@pytest.mark.parametrize("name", ["runs/a", "rüns/b c", "a+b=c/[x]{y}(z),~@"])
def test_addresses_of_directories_are_pages_of_ours(name):
    address = urls.directory(name, order="best")
    assert urls.safe_redirect_target(address) == address
    assert urls.back({"to": address + "&deleted=old"}, "/", deleted="new") == address + "&deleted=new"
    assert urls.back({"to": "//evil.example"}, "/", deleted="new") == "/?deleted=new"
