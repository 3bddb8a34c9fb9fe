"""The history chart on the page of a directory: it shows the saved values."""

import json

import pytest
from playwright.sync_api import expect

from tests.browser.watching import comes_true

_READ = """() => {
  const plot = window.holdfastPlots.history;
  const lines = plot.holdfastLines.map((line) => ({ label: line.label, points: line.points, dash: line.isOther }));
  return { data: plot.data.map((column) => [...column]), lines };
}"""


@pytest.fixture
def drawn(page, site, run):
    """Open the run's page; the returned function reads the chart's columns, and its lines with their points."""
    page.goto(site.directory(run.directory))
    assert comes_true(page, "window.holdfastPlots?.history")
    return lambda: page.evaluate(_READ)


def marks(line, mark):
    return [point["name"] for point in line["points"] if mark in point["marks"]]


def test_the_metric_is_drawn_as_it_was_saved_and_grows_with_a_save(page, run, drawn):
    expect(page.locator("[data-live-state]")).to_have_text("live")
    for _ in range(2):
        assert comes_true(page, f"window.holdfastPlots.history.data[0].length === {len(run.saved)}")
        found = drawn()
        assert found["data"] == [[each["epoch"] for each in run.saved], [each["loss"] for each in run.saved]]
        (line,) = found["lines"]
        assert [point["name"] for point in line["points"]] == [each["name"] for each in run.saved]
        assert marks(line, "latest") == [run.saved[-1]["name"]]
        assert marks(line, "best") == [min(run.saved, key=lambda each: each["loss"])["name"]]
        run.save()
    assert page.locator("#history canvas").count() == 1


def test_several_values_over_sequence_and_time(page, site, run, drawn):
    page.get_by_label("accuracy").check()
    assert comes_true(page, "window.holdfastPlots.history.data.length === 3")
    expect(page.locator("#history")).to_have_attribute(
        "aria-label", f"Chart of metric: {len(run.saved)}, accuracy: {len(run.saved)}"
    )
    assert drawn()["data"][2] == [each["accuracy"] for each in run.saved]
    expected = {
        "sequence": [each["sequence"] for each in site.checkpoints(run.directory)],
        "time": [None] * len(run.saved),
    }
    for over in expected:
        page.get_by_label("Over").select_option(over)
        assert comes_true(page, f"window.holdfastPlots.history.series[0].label === {over!r}")
        xs = drawn()["data"][0]
        assert xs == sorted(xs)
        if over == "sequence":
            assert xs == expected[over]
        else:
            assert 0 < xs[-1] - xs[0] < 3600  # seconds
    page.get_by_label("log scale").check()
    assert comes_true(page, "window.holdfastPlots.history.scales['of metric'].distr === 3")
    assert drawn()["data"][1] == [each["loss"] for each in run.saved]


@pytest.mark.parametrize(
    ("facts", "axis"),
    [
        pytest.param({"step": (500, 1000, 1500)}, "step", id="steps alone"),
        pytest.param({}, "sequence", id="neither"),
        pytest.param({"epoch": (0, 0, 1), "step": (500, 1000, 1500)}, "epoch", id="both"),
    ],
)
def test_the_first_axis_is_one_that_the_checkpoints_have(page, site, directory, facts, axis):
    for place, metric in enumerate((0.5, 0.4, 0.3)):
        query = {"name": f"{place}.pt", "metric": metric, **{fact: numbers[place] for fact, numbers in facts.items()}}
        site.server.save(directory, f"{place}".encode(), **query)
    page.goto(site.directory(directory))
    assert comes_true(page, "window.holdfastPlots?.history")
    expect(page.get_by_label("Over")).to_have_value(axis)
    assert page.evaluate(_READ)["data"][0] == sorted(set(facts.get(axis, (1, 2, 3))))
    page.get_by_label("Over").select_option("step")
    assert comes_true(page, "window.holdfastPlots.history.series[0].label === 'step'")
    expect(page.get_by_label("Over")).to_have_value("step")


def test_another_directory_is_drawn_beside_it(page, run, drawn, watch):
    watch.allow(r"status of 404.*no/such/directory")
    other = "language/gpt-small/lr-3e-4"
    field = page.get_by_label("Compare with")
    field.focus()
    expect(page.locator(f'#other-directories option[value="{other}"]')).to_have_count(1)
    field.fill(other)
    field.press("Tab")
    assert comes_true(page, "window.holdfastPlots.history.data.length === 3")
    ours, theirs = drawn()["lines"]
    assert (ours["label"], theirs["label"], theirs["dash"]) == ("metric", f"metric of {other}", True)
    assert len(theirs["points"]) == 120
    field.fill("no/such/directory")
    field.press("Tab")
    expect(page.locator("#history-status")).to_have_text("There is no directory no/such/directory.")
    field.fill(other)
    field.press("Tab")
    expect(page.locator("#history-status")).to_have_text("")


def test_values_are_drawn_whatever_they_are_called(page, site):
    directory, told = (
        "tests/names-of-values",
        {"x": 100, "metric": 5, "<img src=x>": 2} | {f"v{i}": i for i in range(9)},
    )
    for epoch in range(3):
        site.server.save(directory, epoch=epoch, metric=epoch, metadata=json.dumps(told))
    page.goto(site.directory(directory))
    assert comes_true(page, "window.holdfastPlots?.history")
    assert page.locator("input[name=of][value=metric]").count() == 1
    for name in ("x", "<img src=x>"):
        page.get_by_label(name, exact=True).check()
    assert comes_true(page, "window.holdfastPlots.history.data.length === 4")
    assert page.evaluate(_READ)["data"] == [[0, 1, 2], [0, 1, 2], [2] * 3, [100] * 3]
    assert page.evaluate("window.holdfastPlots.history.scales.x.max") == 2
    for i in range(6):
        page.locator(f"input[value=v{i}]").check()
    expect(page.locator("#history-status")).to_have_text("At most 8 values can be shown at once.")
    page.locator("input[value=v0]").uncheck()
    expect(page.locator("#history-status")).to_have_text("")


def test_the_marks_show_the_state_of_each_checkpoint(page, site):
    directory = "language/gpt-small/lr-1e-4"
    page.goto(site.directory(directory))
    assert comes_true(page, "window.holdfastPlots?.history")
    (line,) = page.evaluate(_READ)["lines"]
    live = site.checkpoints(directory)
    pinned = [each["name"] for each in live if each["pinned"]]
    assert len(line["points"]) == 120
    assert marks(line, "pinned") == pinned != []
    assert marks(line, "live") == [each["name"] for each in live if not each["pinned"]]
    assert len(marks(line, "removed")) == 120 - len(live)
    assert marks(line, "latest") == ["checkpoint_epoch_0119.pt"]


def test_a_point_leads_to_its_checkpoint(page, site, run, drawn):
    place = page.evaluate(
        """() => { const plot = window.holdfastPlots.history; const box = plot.over.getBoundingClientRect();
        return [box.x + plot.valToPos(plot.data[0][2], "x"), box.y + box.height / 2]; }"""
    )
    page.mouse.move(*place)
    page.mouse.click(*place)
    expect(page.get_by_role("heading", level=1)).to_have_text(run.saved[2]["name"])


@pytest.mark.parametrize("metrics", [(1e308, -1e308), (1.7e308,), (5e-324,)], ids=["far apart", "huge", "tiny"])
def test_values_that_cannot_be_drawn_are_named(page, site, metrics):
    directory = f"extremes/{len(metrics)}-{metrics[0]}"
    for epoch, metric in enumerate(metrics):
        site.server.save(directory, epoch=epoch, metric=metric)
    page.goto(site.directory(directory))
    expect(page.locator("#history-status")).to_have_text("Some of these values are too large or too small to be drawn.")
