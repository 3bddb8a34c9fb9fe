"""Origin checks: other web sites are refused, other machines need a token, and requests are bounded."""

import os
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from tests.support.deadlines import DEADLINE_S
from tests.support.live import LiveServer, eventually
from tests.support.raw_sockets import Wire

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
        pytest.param("http://[", id="no address"),
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
def test_a_request_from_another_origin_is_refused(server, site):
    headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "no-cors"}
    assert refusal(server.http.get("/v1/info", headers=headers)) == (403, "cross_site")
    navigating = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert refusal(server.http.get("/v1/info", headers=navigating)) == (403, "cross_site")
    assert server.http.get("/docs", headers=navigating).status_code == 200


def test_a_browser_behind_a_proxy_that_changes_the_host_reads_what_to_do(server):
    headers = {"Origin": "https://checkpoints.example", "Accept": "text/html"}
    answer = server.http.post("/sign-in", headers=headers, content="token=x")
    assert (answer.status_code, answer.headers["content-type"]) == (403, "text/html; charset=utf-8")
    for said in (
        "cross_site",
        "https://checkpoints.example",
        "Host header",
        "HOLDFAST_ALLOWED_HOSTS",
        "docs/how-to/run-behind-nginx.md",
    ):
        assert said in answer.text
    assert answer.headers["x-frame-options"] == "DENY"
    named = server.http.get("/", headers={"Host": "evil.example", "Accept": "text/html"})
    assert (named.status_code, "HOLDFAST_ALLOWED_HOSTS" in named.text, "<html" in named.text) == (403, True, True)
    assert refusal(server.http.post("/v1/checkpoints", headers=headers)) == (403, "cross_site")


def test_a_refusal_leads_back_to_the_page_of_this_server_that_asked(server):
    headers = {"Accept": "text/html", "Origin": server.url}
    ours, theirs = f"{server.url}/?q=<1>", "https://evil.example/"
    for referer, shown in ((ours, True), (theirs, False)):
        answer = server.http.get("/checkpoints/none", headers={**headers, "Referer": referer})
        assert (answer.status_code >= 400, ">Back</a>" in answer.text, theirs in answer.text) == (True, shown, False)


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


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    with LiveServer(
        tmp_path_factory.mktemp("guarded") / "root", admin_token=TOKEN, allowed_hosts="box.example,*.cluster.local"
    ) as live:
        yield live


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_with_the_token_everything_is_open(guarded, scheme):
    headers = {"Authorization": f"{scheme} {TOKEN}"}
    assert guarded.http.get("/v1/info", headers=headers).status_code == 200
    assert guarded.http.get("/metrics", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("host", "answered"),
    [
        ("127.0.0.1", True),
        ("192.0.2.7:8420", True),
        ("[2001:db8::1]:8420", True),
        (socket.gethostname(), True),
        ("box.example", True),
        ("BOX.example:8420", True),
        ("a.cluster.local", True),
        ("a.b.cluster.local", True),
        ("cluster.local", False),
        ("xcluster.local", False),
        ("evil.example", False),
        ("box.example.evil.example", False),
        ("", False),
    ],
)
def test_a_server_with_tokens_answers_to_names_that_are_its_own(guarded, host, answered):
    for path, headers in (("/v1/info", {"Authorization": f"Bearer {TOKEN}"}), ("/health/live", {})):
        answer = guarded.http.get(path, headers={"Host": host, **headers})
        assert answer.status_code == (200 if answered else 403)
        assert answered or answer.json()["code"] == "host_not_allowed"


def test_any_name_can_be_allowed(make_server):
    live = make_server(allowed_hosts="*", admin_token=TOKEN)
    assert live.http.get("/health/live", headers={"Host": "any.example"}).status_code == 200


def test_nor_does_a_refusal_before_all_routes_or_a_mishap(make_server):
    live = make_server()
    live.save("runs/a")
    with Wire(live.url) as wire:
        wire.send(b"GARBAGE\r\n\r\n")
        garbage = wire.answer()
    with closing(sqlite3.connect(live.root / ".holdfast" / "catalog.db")) as database:
        database.execute("DROP TABLE directories")
        database.commit()
    mishap = live.http.get("/v1/directories")
    assert (garbage.status, mishap.status_code) == (400, 500)
    for headers in (garbage.headers, mishap.headers):
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"


def test_no_answer_runs_in_a_browser_or_is_kept_by_it(guarded, server, directory):
    server.save(directory)
    answers = [
        guarded.http.get("/v1/info"),
        guarded.http.get("/health/live"),
        guarded.http.get("/nothing"),
        guarded.http.get("/v1/info", headers={"Host": "evil.example"}),
        server.http.get(f"/v1/directories/{directory}"),
        server.http.get(f"/v1/checkpoints/latest/content?directory={directory}"),
    ]
    for answer in answers:
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["cache-control"] in {"no-store", "private, no-cache"}
        assert not any(name.startswith("access-control-") for name in answer.headers)
        assert len({name.lower() for name, _ in answer.headers.multi_items()}) == len(answer.headers.multi_items())
    assert answers[-1].headers["content-disposition"].startswith("attachment")
    assert answers[-1].headers["content-type"] == "application/octet-stream"


@pytest.mark.parametrize(
    "token",
    [
        "short",
        "x" * 15,
        "schlüssel-mit-umlaut",
        "tab\tin-a-long-token",
        "a break\nin a long token",
        "a long token with spaces",
    ],
)
def test_a_token_that_can_be_guessed_or_not_be_sent_is_refused(tmp_path, token):
    command = [sys.executable, "-m", "app", "serve", "--port", "0", "--root", str(tmp_path / "root")]
    environment = {**os.environ, "HOLDFAST_ADMIN_TOKEN": token}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert ended.returncode == 2
    assert "HOLDFAST_ADMIN_TOKEN" in ended.stderr
    assert token not in ended.stderr
    assert not (tmp_path / "root").exists()


def test_one_token_may_not_have_too_many_requests_at_a_time(make_server):
    live = make_server(max_requests_per_token="2")
    with live.http.stream("GET", "/v1/events"), live.http.stream("GET", "/v1/events"):
        answer = live.http.get("/v1/info")
        assert refusal(answer) == (429, "too_many_requests")
        assert answer.headers["retry-after"] == "1"
        assert live.http.get("/health/live").status_code == 200
    assert eventually(lambda: live.http.get("/v1/info").status_code == 200)


def test_one_token_may_not_have_too_many_uploads_under_way(make_server):
    live = make_server(max_uploads_per_token="2")
    begun = [live.http.post("/v1/uploads", json=upload(number)) for number in range(2)]
    answer = live.http.post("/v1/uploads", json=upload(2))
    assert refusal(answer) == (429, "too_many_uploads")
    assert int(answer.headers["retry-after"]) > 0
    assert refusal(live.http.post("/v1/checkpoints?directory=runs/b", content=b"x")) == (429, "too_many_uploads")
    assert live.http.post("/v1/uploads", json=upload(1)).status_code == 200  # the same token again
    live.http.delete(f"/v1/uploads/{begun[0].json()['id']}").raise_for_status()
    assert live.http.post("/v1/uploads", json=upload(2)).status_code == 201


def upload(number):
    return {"directory": "runs/a", "name": f"{number}.pt", "save_id": f"save-000{number}", "files": [{"size_bytes": 5}]}


@pytest.mark.parametrize("header", ["X-Forwarded-For", "X-Real-IP", "Forwarded"])
def test_without_a_token_it_does_not_answer_through_a_proxy(server, header):
    answer = server.http.get("/v1/info", headers={header: "for=127.0.0.1" if header == "Forwarded" else "127.0.0.1"})
    assert refusal(answer) == (401, "unauthorized")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_without_a_token_it_does_not_listen_beyond_loopback(tmp_path, host):
    command = [sys.executable, "-m", "app", "serve", "--host", host, "--port", "0", "--root", str(tmp_path / "root")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert ended.returncode == 2
    assert "HOLDFAST_ADMIN_TOKEN" in ended.stderr
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
