"""Fixtures: one browser, one server and one training job for all tests of this folder in one process."""

import os
import shutil
from contextlib import suppress

import pytest
from playwright.sync_api import Error, expect, sync_playwright

from tests.browser.site import Site
from tests.browser.watching import Watch
from tests.support.deadlines import DEADLINE_S

DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
_TIMEOUT_MS = 1000 * DEADLINE_S
_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="package")
def chromium():
    """Start Chromium for this folder only: while Playwright runs, this thread can run no other event loop."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("chromium is not installed; scripts/tools installs it")
    expect.set_options(timeout=_TIMEOUT_MS)
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=program, args=_ARGUMENTS)
        except Error as error:
            pytest.skip(f"chromium cannot be started here: {error.message.splitlines()[0]}")
        browser.new_context().close()
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def site(chromium, tmp_path_factory, jobs):
    """The server of the tests, which no test stops."""
    made = Site(tmp_path_factory.mktemp("site"), jobs)
    yield made
    made.close()


@pytest.fixture
def watch(site):
    """Watch the browser; the test fails if it reports an error."""
    found = Watch(site.url)
    yield found
    assert found.asked, "the test requested no page"
    assert found.complaints == []


@pytest.fixture
def open_context(chromium, site, watch):
    """Return a function that opens signed-in browser contexts, which are closed after the test."""
    opened = []

    def make(cookie=None, *, signed_in=True, **options):
        context = chromium.new_context(**{"viewport": DESKTOP, "reduced_motion": "reduce", **options})
        context.set_default_timeout(_TIMEOUT_MS)
        watch.follow(context)
        opened.append(context)
        if signed_in:
            context.add_cookies([cookie or site.cookie])
        return context

    yield make
    for context in opened:
        with suppress(Error):
            context.close()


@pytest.fixture
def page(open_context):
    """A page of a signed-in browser."""
    return open_context().new_page()


@pytest.fixture(scope="package")
def run(site):
    """A run with some saved epochs, for tests that only read or save more."""
    made = site.training.run("digits/transformer/seed-1")
    made.save(5)
    return made


@pytest.fixture
def new_run(site, request):
    """Return a function that makes a run for this test alone."""

    def make(epochs, **limits):
        made = site.training.run(f"tests/{request.node.name.replace('[', '-').replace(']', '')}", **limits)
        made.save(epochs)
        return made

    return make


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """The folder for pictures: HOLDFAST_PICTURES, else a temporary one."""
    named = os.environ.get("HOLDFAST_PICTURES")
    return named if named else tmp_path_factory.mktemp("pictures")
