"""Accessibility: pages pass the automatic checks, light and dark, on a desktop and on a phone."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.browser.conftest import DESKTOP, PHONE

_RULES = {"resultTypes": ["violations"]}


def sign_in(page, site, run):
    page.context.clear_cookies()
    page.goto(f"{site.url}/sign-in")


def directories(page, site, run):
    page.goto(site.url)


def nothing_found(page, site, run):
    page.goto(f"{site.url}/?q=nothing+of+that+name")


def directory(page, site, run):
    """Show a directory with a policy preview and removed checkpoints."""
    page.goto(f"{site.directory('language/gpt-small/lr-3e-4')}?removed=true")
    expect(page.locator("#history canvas")).to_be_visible()
    page.get_by_label("Keep last: number").fill("2")
    expect(page.locator("#preview tr.going")).not_to_have_count(0)


def question(page, site, run):
    page.goto(site.directory(run.directory))
    page.get_by_role("button", name="Delete").first.click()
    expect(page.get_by_role("dialog")).to_be_visible()


def checkpoint(page, site, run):
    page.goto(f"{site.checkpoint(run.directory, run.saved[0]['name'])}?q=layers.0+weight")


def comparison(page, site, run):
    ids = [each["id"] for each in site.checkpoints(run.directory)]
    page.goto(f"{site.url}/checkpoints/{ids[4]}/comparison?against={ids[0]}&q=head")


def storage(page, site, run):
    with site.upload("vision/resnet-50/cutmix", "next.pt", size_bytes=4_000_000, arrived_bytes=2_500_000):
        page.goto(f"{site.url}/storage")
        expect(page.locator(".uploads li")).to_have_count(1)
        expect(page.locator("#storage-plot canvas")).to_be_visible()


def removed(page, site, run):
    found = site.checkpoints("language/gpt-small/lr-3e-4", include_removed=True)
    page.goto(f"{site.url}/checkpoints/{next(each['id'] for each in found if each['removed_at'])}")


def refused(page, site, run):
    page.goto(f"{site.url}/directories/no/such/directory")


PAGES = [sign_in, directories, nothing_found, directory, question, checkpoint, comparison, storage, removed, refused]


@pytest.mark.parametrize("shown", PAGES)
def test_no_rule_is_broken_and_nothing_is_wider_than_the_screen(open_context, site, run, watch, shown):
    watch.allow("status of 404")
    page = open_context(site.session(site.token), bypass_csp=True, color_scheme="light").new_page()
    shown(page, site, run)
    for size, scheme in ((DESKTOP, "light"), (PHONE, "dark")):
        page.set_viewport_size(size)
        page.emulate_media(color_scheme=scheme)
        found = Axe().run(page, options=_RULES).response["violations"]
        grave = [each for each in found if each["impact"] in {"serious", "critical"}]
        told = [(each["id"], [node["html"][:200] for node in each["nodes"][:3]]) for each in grave]
        assert told == [], f"{scheme}, {size['width']} px wide"
        width = page.evaluate("document.scrollingElement.scrollWidth")
        assert width <= size["width"], f"{scheme}, {size['width']} px wide: {width} px"
