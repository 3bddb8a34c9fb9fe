"""The first page: the line of each directory follows its commits."""

import re

from tests.support.live import LiveServer


def line_of(server):
    """The words that describe the line of the only directory; None if it has none."""
    found = re.search(r'aria-label="(the metric of[^"]*)"', server.http.get("/").text)
    return found[1] if found else None


def test_the_line_shows_the_metrics_of_the_last_saves(own_server: LiveServer):
    for number, words in ((1, None), (2, "2 saves: from 1 to 2"), (3, "3 saves: from 1 to 3")):
        own_server.save("runs/a", epoch=number, metric=number)
        for _ in range(2):
            assert line_of(own_server) == (words and f"the metric of the last {words}")
