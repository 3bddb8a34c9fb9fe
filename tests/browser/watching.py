"""Watching a browser: its errors, and the requests of the pages of one server."""

import re

from tests.support.live import eventually

_LEFT = "net::ERR_ABORTED"  # leaving a page aborts its pending requests


class Watch:
    """Follows contexts of a browser.

    Parameters
    ----------
    origin : str
        The only origin that pages may request.
    """

    def __init__(self, origin):
        self._origin = origin
        self._allowed = []
        self._heard = []
        self.asked = []
        """Method and address of each request, in order."""

    def follow(self, context):
        """Listen to all pages of a context."""
        context.on("console", self._console)
        context.on("weberror", lambda error: self._heard.append(f"error: {error.error}"))
        context.on("request", self._request)
        context.on("requestfailed", self._failed)

    def allow(self, pattern):
        """Allow errors that match a pattern, as the test provokes them."""
        self._allowed.append(re.compile(pattern))

    @property
    def complaints(self):
        """Errors that are not allowed."""
        return [each for each in self._heard if not any(pattern.search(each) for pattern in self._allowed)]

    def _console(self, message):
        if message.type in {"error", "warning"}:
            self._heard.append(f"{message.type}: {message.text} ({message.location.get('url')})")

    def _request(self, request):
        self.asked.append((request.method, request.url))
        if not request.url.startswith((f"{self._origin}/", "data:", "blob:")):
            self._heard.append(f"elsewhere: {request.url}")

    def _failed(self, request):
        if request.failure != _LEFT:
            self._heard.append(f"failed: {request.url}: {request.failure}")


def comes_true(page, condition):
    """Wait until a condition is true in a page. Playwright's own waiting needs eval, which the pages forbid."""

    def look():
        page.wait_for_timeout(20)  # lets the page run, which a sleep would not
        return page.evaluate(condition)

    return eventually(look, seconds=10)
