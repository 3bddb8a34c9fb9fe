"""Pictures of the main pages, light and dark, for the documents if HOLDFAST_PICTURES names their folder."""

import os
from pathlib import Path

import pytest
from playwright.sync_api import expect

LARGEST_BYTES = 150_000
SEARCHED = "language/gpt-small/lr-3e-4-warm"


def directories(page, site, run):
    page.goto(site.url)


def directory(page, site, run):
    page.goto(f"{site.directory(SEARCHED)}")
    page.get_by_label("Compare with").fill("language/gpt-small/lr-1e-3")
    page.get_by_label("Compare with").press("Tab")
    expect(page.locator("#history tr.u-series")).to_have_count(3)


def checkpoint(page, site, run):
    page.goto(site.checkpoint(run.directory, run.saved[-1]["name"]))


def comparison(page, site, run):
    ids = [each["id"] for each in site.checkpoints(run.directory)]
    page.goto(f"{site.url}/checkpoints/{ids[4]}/comparison?against={ids[0]}")


def storage(page, site, run):
    page.goto(f"{site.url}/storage")
    expect(page.locator("#storage-plot canvas")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("shown", [directories, directory, checkpoint, comparison, storage])
def test_picture(open_context, site, run, pictures, shown, scheme):
    page = open_context(color_scheme=scheme).new_page()
    shown(page, site, run)
    if page.locator("body[data-live]").count():
        expect(page.locator("[data-live-state]")).to_have_text("live")
    page.evaluate("document.activeElement.blur()")
    file = Path(pictures) / f"dashboard-{shown.__name__}-{scheme}.png"
    page.screenshot(path=file, animations="disabled", caret="hide")
    assert file.stat().st_size > 10_000
    if "HOLDFAST_PICTURES" in os.environ:
        assert file.stat().st_size < LARGEST_BYTES, "too large to be part of the documents"
    assert file.read_bytes().startswith(b"\x89PNG")
