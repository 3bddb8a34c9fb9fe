"""Who may: other web sites may not, other machines need a token, and no request may be endless."""

import subprocess
import sys

import pytest

from tests.live import LiveServer

TOKEN = "secret-0123456789abcdef"


def refusal(answer):
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS"])
@pytest.mark.parametrize(
    "origin",
    [
        pytest.param("https://evil.example", id="another site"),
        pytest.param("null", id="a sandbox"),
        pytest.param("http://127.0.0.1:1", id="another port"),
        pytest.param("http://127.0.0.1.evil.example", id="a longer name"),
    ],
)
def test_another_web_site_may_not_speak_for_a_user(server, directory, method, origin):
    url = {"POST": "/v1/checkpoints", "DELETE": f"/v1/directories/{directory}"}.get(method, "/v1/info")
    server.save(directory)
    query = {"directory": directory} if method == "POST" else {}
    headers = {"Origin": origin, "Content-Type": "text/plain"}
    answer = server.http.request(method, url, params=query, headers=headers, content=b"x" if query else None)
    assert refusal(answer) == (403, "cross_site")
    assert "access-control-allow-origin" not in answer.headers
    assert len(server.names(directory)) == 1


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_browser_that_says_it_comes_from_elsewhere_is_refused(server, site):
    headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "no-cors"}
    assert refusal(server.http.get("/v1/info", headers=headers)) == (403, "cross_site")
    navigating = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert refusal(server.http.get("/v1/info", headers=navigating)) == (403, "cross_site")
    assert server.http.get("/docs", headers=navigating).status_code == 200


def test_our_own_pages_may(server):
    headers = {"Origin": server.url, "Sec-Fetch-Site": "same-origin"}
    assert server.http.get("/v1/info", headers=headers).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8420", "127.0.0.1.evil.example", "", "[", "[::1"])
def test_a_name_that_was_rebound_to_loopback_is_refused(server, host):
    assert refusal(server.http.get("/v1/info", headers={"Host": host})) == (403, "host_not_allowed")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:8420", "[::1]:8420"])
def test_the_names_of_loopback_are_answered_to(server, host):
    assert server.http.get("/v1/info", headers={"Host": host}).status_code == 200


def test_further_hosts_can_be_allowed(make_server):
    live = make_server(allowed_hosts='["box.example"]')
    assert live.http.get("/v1/info", headers={"Host": "box.example:8420"}).status_code == 200
    assert refusal(live.http.get("/v1/info", headers={"Host": "evil.example"})) == (403, "host_not_allowed")


ROUTES = [
    ("GET", "/v1/directories"),
    ("GET", "/v1/directories/a"),
    ("PUT", "/v1/directories/a"),
    ("DELETE", "/v1/directories/a"),
    ("GET", "/v1/checkpoints?directory=a"),
    ("POST", "/v1/checkpoints?directory=a"),
    ("GET", "/v1/checkpoints/best?directory=a"),
    ("GET", "/v1/checkpoints/latest?directory=a"),
    ("GET", "/v1/checkpoints/best/content?directory=a"),
    ("HEAD", "/v1/checkpoints/latest/content?directory=a"),
    ("GET", "/v1/checkpoints/0123"),
    ("PATCH", "/v1/checkpoints/0123"),
    ("DELETE", "/v1/checkpoints/0123"),
    ("GET", "/v1/checkpoints/0123/content"),
    ("GET", "/v1/checkpoints/0123/files/a"),
    ("POST", "/v1/checkpoints/0123/restore"),
    ("GET", "/v1/checkpoints/0123/chunks"),
    ("GET", "/v1/checkpoints/0123/tensors"),
    ("POST", "/v1/uploads"),
    ("GET", "/v1/uploads/0123"),
    ("PUT", "/v1/uploads/0123/files/a"),
    ("POST", "/v1/uploads/0123/commit"),
    ("DELETE", "/v1/uploads/0123"),
    ("POST", "/v1/prune"),
    ("GET", "/v1/events?follow=false"),
    ("GET", "/v1/info"),
    ("GET", "/metrics"),
]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    with LiveServer(tmp_path_factory.mktemp("guarded") / "root", token=TOKEN) as live:
        yield live


@pytest.mark.parametrize(("method", "target"), [pytest.param(*route, id=" ".join(route)) for route in ROUTES])
def test_without_the_token_no_route_says_anything(guarded, method, target):
    for authorization in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}):
        body = b"{}" if method in {"PUT", "POST", "PATCH"} else None
        headers = {**authorization, "Content-Type": "application/json"}
        answer = guarded.http.request(method, target, content=body, headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
    assert not (guarded.root / "a").exists()


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_with_the_token_everything_is_open(guarded, scheme):
    headers = {"Authorization": f"{scheme} {TOKEN}"}
    assert guarded.http.get("/v1/info", headers=headers).status_code == 200
    assert guarded.http.get("/metrics", headers={**headers, "Host": "box.example"}).status_code == 200


def test_every_route_is_in_the_table_above(guarded):
    described = guarded.http.get("/openapi.json").json()["paths"]
    open_to_all = {"/health/live", "/health/ready"}
    operations = sum(len(methods) for path, methods in described.items() if path not in open_to_all)
    heads = sum("head" in methods for methods in described.values())
    assert operations - heads == sum(method != "HEAD" for method, _ in ROUTES) + 1  # latest/content is asked by HEAD


def test_whether_it_lives_is_told_to_anyone(guarded):
    assert guarded.http.get("/health/live").json() == {"status": "live"}
    assert guarded.http.get("/health/ready").json() == {"status": "ready"}


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_without_a_token_it_does_not_listen_beyond_loopback(tmp_path, host):
    command = [sys.executable, "-m", "app", "serve", "--host", host, "--port", "0", "--root", str(tmp_path / "root")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 2
    assert "HOLDFAST_TOKEN" in ended.stderr
    assert not (tmp_path / "root").exists()


def test_json_may_not_be_endless_but_bytes_may(make_server):
    live = make_server(max_json_bytes="10000")
    large = b'{"directory": "a", "metadata": {"a": "' + b"x" * 10000 + b'"}}'
    headers = {"Content-Type": "application/json"}
    for body in (large, iter([large])):
        assert refusal(live.http.post("/v1/uploads", content=body, headers=headers)) == (413, "too_large")
    assert live.save("runs/a", b"x" * 20000)["size_bytes"] == 20000
    upload = live.http.post("/v1/uploads", json={"directory": "runs/b", "files": [{"size_bytes": 20000}]}).json()
    live.http.put(upload["missing"][0]["url"], content=b"x" * 20000).raise_for_status()
    assert live.http.post(f"/v1/uploads/{upload['id']}/commit").status_code == 201
