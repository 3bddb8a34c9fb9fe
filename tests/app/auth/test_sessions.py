"""Sessions of the dashboard: signing in with a token, the access of a session, and its end."""

import base64
import hashlib
from datetime import timedelta
from urllib.parse import urlencode

import httpx
import pytest

from app.dashboard.render.vendored import FILES
from tests.support.live import PROJECT, LiveServer
from tests.support.tokens import bearer, mint, revoke

HTML = {"Accept": "text/html"}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    with LiveServer(tmp_path_factory.mktemp("guarded") / "root") as live:
        live.token = mint(live.root, "read", prefix="team/a")
        admin = bearer(mint(live.root, "admin"))
        for directory in ("team/a", "team/ab"):
            live.http.post(f"/v1/checkpoints?directory={directory}", content=b"bytes", headers=admin).raise_for_status()
        yield live


@pytest.fixture
def browser(guarded):
    with httpx.Client(base_url=guarded.url, headers=HTML) as client:
        yield client


def sign_in(browser, token, to="/"):
    return browser.post("/sign-in", content=urlencode({"token": token, "to": to}))


def test_whoever_is_not_signed_in_is_asked_to(browser, guarded):
    answer = browser.get("/")
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in?to=/")
    assert 'type="password"' in browser.get("/sign-in").text
    assert guarded.http.get("/").status_code == 401  # a program gets JSON, not the page to sign in


def test_signing_in_shows_what_the_token_reaches(browser, guarded):
    answer = sign_in(browser, guarded.token)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    page = browser.get("/")
    assert page.status_code == 200
    assert "team/a<" in page.text
    assert "team/ab" not in page.text
    assert guarded.token[5:15] in page.text
    assert guarded.token not in page.text


def test_the_cookie_is_out_of_reach_for_scripts_and_other_sites(browser, guarded):
    said = sign_in(browser, guarded.token).headers["set-cookie"].lower()
    assert {"httponly", "samesite=strict", "path=/"} <= {part.strip() for part in said.split(";")}
    assert guarded.token.lower() not in said


def test_behind_tls_the_cookie_stays_there(make_server):
    live = make_server(trusted_proxies="127.0.0.1")
    token = mint(live.root, "read")
    for scheme, secure in (("https", True), ("http", False)):
        headers = {"X-Forwarded-Proto": scheme}
        said = live.http.post("/sign-in", content=f"token={token}", headers=headers).headers["set-cookie"]
        assert ("Secure" in said) is secure


def test_a_proxy_that_nobody_named_is_not_believed(guarded):
    headers = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.1"}
    said = guarded.http.post("/sign-in", content=f"token={guarded.token}", headers=headers).headers["set-cookie"]
    guarded.http.cookies.clear()
    assert "Secure" not in said


@pytest.mark.parametrize("token", ["", "wrong", "hfst_" + "0" * 59, "<script>alert(1)</script>"])
def test_a_token_that_does_not_count_opens_nothing(browser, token):
    answer = sign_in(browser, token)
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers
    assert "no such token" in answer.text
    assert "<script>" not in answer.text


def test_the_session_is_worth_nothing_to_the_interface_for_programs(browser, guarded):
    sign_in(browser, guarded.token)
    assert browser.get("/").status_code == 200
    for address in ("/v1/info", "/v1/directories", "/metrics", "/v1/events?follow=false"):
        assert browser.get(address).status_code == 401


def test_a_token_is_worth_nothing_to_the_pages(guarded):
    assert guarded.http.get("/", headers=bearer(guarded.token)).status_code == 401


def test_revoking_the_token_ends_its_sessions(browser, guarded):
    token = mint(guarded.root, "read")
    sign_in(browser, token)
    assert browser.get("/").status_code == 200
    assert revoke(guarded.root, token[5:15])
    assert browser.get("/").status_code == 303


def test_signing_out_ends_the_session_also_for_a_stolen_cookie(browser, guarded):
    sign_in(browser, guarded.token)
    stolen = browser.cookies["holdfast-session"]
    assert browser.post("/sign-out").headers["location"] == "/sign-in"
    assert "holdfast-session" not in browser.cookies
    assert guarded.http.get("/", headers={"Cookie": f"holdfast-session={stolen}"}).status_code == 401


def test_signing_in_and_out_is_written_down_for_the_token(browser, guarded):
    token = mint(guarded.root, "admin")
    sign_in(browser, token)
    browser.post("/sign-out")
    lines = guarded.http.get("/v1/audit", headers=bearer(token), params={"token_id": token[5:15]}).json()["lines"]
    assert [line["action"] for line in lines] == ["session.ended", "session.begun"]


def test_a_session_ends_after_twelve_hours_or_with_its_token(tmp_path):
    clock = tmp_path / "clock"
    clock.write_text("0")
    with LiveServer(tmp_path / "root", clock=clock) as server:
        tokens = [mint(tmp_path / "root", "read"), mint(tmp_path / "root", "read", expires=timedelta(hours=1))]
        cookies = []
        for token in tokens:
            answer = httpx.post(f"{server.url}/sign-in", content=f"token={token}")
            cookies.append({"Cookie": f"holdfast-session={answer.cookies['holdfast-session']}"})
        for hours, counts in ((0.9, [True, True]), (1.1, [True, False]), (11.9, [True, False]), (12.1, [False, False])):
            clock.write_text(str(hours * 3600))
            assert [httpx.get(server.url, headers=cookie).status_code == 200 for cookie in cookies] == counts, hours


@pytest.mark.parametrize(
    ("to", "leads"),
    [
        ("/", "/"),
        ("/runs/a", "/runs/a"),
        ("//evil.example", "/"),
        ("https://evil.example", "/"),
        ("/\\evil.example", "/"),
        ("/\n/evil", "/"),
        ("javascript:alert(1)", "/"),
        ("/%2f/evil.example", "/"),
    ],
)
def test_signing_in_leads_nowhere_else(browser, guarded, to, leads):
    assert sign_in(browser, guarded.token, to).headers["location"] == leads


def test_another_site_cannot_sign_anybody_in_or_out(browser, guarded):
    for address in ("/sign-in", "/sign-out"):
        answer = browser.post(address, content=f"token={guarded.token}", headers={"Origin": "http://evil.example"})
        assert answer.status_code == 403
        assert "set-cookie" not in answer.headers


def test_a_form_may_not_be_endless(browser):
    assert browser.post("/sign-in", content=b"token=" + b"x" * 100_000).status_code == 413


def test_pages_allow_their_own_style_and_scripts_only(browser, guarded):
    sign_in(browser, guarded.token)
    for address in ("/", "/sign-in"):
        policy = browser.get(address).headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
        assert "unsafe" not in policy
        assert browser.get(address).headers["referrer-policy"] == "same-origin"  # else forms have no origin
    assert browser.get("/static/holdfast.css").headers["content-type"].startswith("text/css")
    for address in ("/static/../pages.py", "/static/%2e%2e/pages.py", "/static/", "/static/nothing.css"):
        assert browser.get(address).status_code in {303, 404}


def test_the_description_runs_its_own_script_only(browser):
    page = browser.get("/docs")
    policy = page.headers["content-security-policy"]
    assert page.text.count("<script>") == policy.count("'sha256-") == 1
    assert "default-src 'none'" in policy
    assert "script-src 'self' 'sha256-" in policy


def test_without_tokens_nobody_is_asked(make_server):
    live = make_server()
    live.save("runs/a", name="<b>.pt".replace("<", "(").replace(">", ")"))
    page = live.http.get("/", headers=HTML)
    assert page.status_code == 200
    assert "runs/a" in page.text
    of_another_server = {"Cookie": "holdfast-session=unknown", **HTML}  # cookies know no ports
    assert live.http.get("/", headers=of_another_server).status_code == 200
    mint(live.root, "read")
    assert live.http.get("/", headers=of_another_server).status_code == 303
    assert live.http.get("/", headers=HTML).status_code == 303


def test_scripts_of_others_are_what_their_hashes_say():
    folder = PROJECT / "app" / "dashboard" / "static" / "vendor"
    files = {file.name for file in folder.iterdir() if file.suffix in {".js", ".css"}}
    assert files == {found.file for found in FILES.values()}
    for found in FILES.values():
        digest = base64.b64encode(hashlib.sha384((folder / found.file).read_bytes()).digest()).decode()
        assert found.integrity == f"sha384-{digest}"
        assert found.version in found.file


def test_browsers_keep_files_of_others_for_good_and_ask_for_ours(guarded):
    ours = guarded.http.get("/static/holdfast.css")
    assert ours.headers["cache-control"] == "no-cache"
    assert guarded.http.get("/static/holdfast.css", headers={"If-None-Match": ours.headers["etag"]}).status_code == 304
    assert "immutable" in guarded.http.get(FILES["htmx"].address).headers["cache-control"]
