"""Root path: a server behind a proxy that strips its path, and behind one that does not."""

import re

import pytest

from tests.support.forwarder import Forwarder
from tests.support.live import LiveServer
from tests.support.tokens import bearer, mint

AT = "/holdfast"


def strip(is_request, piece):
    """Return the beginning of a request without the root path, as such a proxy forwards it."""
    return re.sub(rb"^([A-Z]+ )/holdfast(?=/| )/?", rb"\1/", piece) if is_request else piece


@pytest.fixture(scope="module")
def below(tmp_path_factory):
    with LiveServer(tmp_path_factory.mktemp("below") / "root", root_path=AT, undo_window="1h") as live:
        live.token = mint(live.root, "admin")
        live.http.headers.update(bearer(live.token))
        yield live


@pytest.fixture(params=["stripped", "passed on"])
def host(below, request):
    """Address of the proxy; the client of the test connects to it."""
    with Forwarder(below.url, change=strip if request.param == "stripped" else lambda up, piece: piece) as proxy:
        before, below.http.base_url = below.http.base_url, proxy.url
        yield proxy.url
        below.http.base_url = before
        below.http.cookies.clear()


def test_every_address_on_every_page_works(below, host, directory):
    http = below.http
    saved = http.post(f"{AT}/v1/checkpoints?directory={directory}&epoch=1&metric=1", content=b"x").json()
    asked = http.get(f"{AT}/directories/{directory}", headers={"Accept": "text/html"})
    assert asked.headers["location"] == f"{AT}/sign-in?to=/directories/{directory}"
    to = asked.headers["location"].partition("?to=")[2]
    signed_in = http.post(f"{AT}/sign-in", content=f"token={below.token}&to={to}")
    assert signed_in.headers["location"] == f"{AT}/directories/{directory}"
    assert f"Path={AT};" in signed_in.headers["set-cookie"]
    pages = [
        f"{AT}/",
        f"{AT}/directories/{directory}",
        f"{AT}/checkpoints/{saved['id']}",
        f"{AT}/storage",
        f"{AT}/docs",
    ]
    seen = set()
    for page in pages:
        text = http.get(page, headers={"Accept": "text/html"}).raise_for_status().text
        seen |= set(re.findall(r"""(?:href|src|action|hx-get|data-[a-z]+)="(/[^"]*)\"""", text))
        seen |= set(re.findall(r"""url: '([^']+)'""", text))
    assert len(seen) > 15
    for address in sorted(seen):
        assert address.startswith(f"{AT}/"), address
        if "/live" not in address and not address.endswith("checkpoints/"):
            answer = http.get(address.replace("&amp;", "&"), headers={"Accept": "text/html"})
            assert answer.status_code in {200, 303, 405, 422}, address  # some addresses are those of forms
    with http.stream("GET", f"{AT}/live") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
    pinned = http.post(f"{AT}/checkpoints/{saved['id']}/pin", content="pinned=true")
    assert pinned.status_code != 404
    assert pinned.headers.get("location", AT).startswith(AT)
    assert f"Path={AT};" in http.post(f"{AT}/sign-out").headers["set-cookie"]


def test_the_api_and_its_links_work(below, host, directory):
    http = below.http
    saved = http.post(f"{AT}/v1/checkpoints?directory={directory}&epoch=1", content=b"bytes").json()
    link = http.post(f"{AT}/v1/checkpoints/{saved['id']}/links").json()["url"]
    assert link.startswith(f"{host}{AT}/v1/links/")
    assert http.get(link).content == b"bytes"
    assert http.get(f"{AT}/v1/info").json()["docs"] == f"{AT}/docs"
    assert http.get(f"{AT}/openapi.json").json()["servers"] == [{"url": AT}]
    assert http.get(f"{AT}/v1/nothing").json()["code"] == "not_found"
    with http.stream("GET", f"{AT}/v1/events?follow=false", headers={"Last-Event-ID": "0"}) as stream:
        assert "checkpoint.saved" in stream.read().decode()


def test_what_needs_a_token_needs_it_below_the_path_too(below, host):
    http, key = below.http, below.http.headers.pop("authorization")
    try:
        for path in ("/v1/info", "/v1/checkpoints?directory=a", "/metrics", "/", "/storage"):
            assert http.get(f"{AT}{path}").status_code == 401, path
        assert http.get(f"{AT}/health/live").status_code == 200
        assert http.get(f"{AT}/v1/info", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    finally:
        http.headers["authorization"] = key


def test_it_is_reached_without_the_path_as_well(below):
    assert below.http.get("/v1/info").status_code == 200
    assert below.http.get("/static/holdfast.css").status_code == 200
