"""Every request has an id, every line of the log contains it, and no line contains a secret or moves a cursor."""

import logging
import re
import sqlite3

import pytest

from app.runtime.logs import Formatter
from tests.support.live import LiveServer, eventually
from tests.support.tokens import bearer, mint


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    with LiveServer(
        tmp_path_factory.mktemp("guarded") / "root", undo_window="1h", access_log="true", upload_lease_s="3600"
    ) as live:
        live.token = mint(live.root, "admin")
        live.http.headers.update(bearer(live.token))
        yield live


@pytest.mark.parametrize("given", ["job-17.step_3", "A" * 64])
def test_a_harmless_request_id_is_kept(guarded, given):
    answer = guarded.http.get("/v1/checkpoints/0123", headers={"X-Request-Id": given})
    assert answer.headers["x-request-id"] == given
    assert answer.json()["request_id"] == given
    assert eventually(lambda: f"[{given}]" in guarded.log())  # it is written after the answer


@pytest.mark.parametrize("given", ["a b", "A" * 65, "x\tINFO: forged", "é".encode(), "<script>", ""])
def test_any_other_request_id_is_replaced(guarded, given):
    answer = guarded.http.get("/v1/checkpoints/0123", headers={"X-Request-Id": given})
    assert answer.headers["x-request-id"] == answer.json()["request_id"]
    assert len(answer.headers["x-request-id"]) == 16
    assert "forged" not in guarded.log()


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/health/live", {}, 200),
        ("/v1/info", {}, 200),
        ("/v1/info", {"Host": "evil.example"}, 403),
        ("/v1/info", {"Origin": "http://evil.example"}, 403),
        ("/v1/info", {"Authorization": "Bearer wrong"}, 401),
        ("/v1/nothing", {}, 404),
        ("/sign-in", {}, 200),
    ],
)
def test_every_answer_says_its_request_and_the_log_says_it_too(guarded, path, headers, status):
    answer = guarded.http.get(path, headers=headers)
    assert answer.status_code == status
    request_id = answer.headers["x-request-id"]
    assert status < 400 or answer.json()["request_id"] == request_id
    assert eventually(lambda: f"[{request_id}]" in guarded.log())  # it is written after the answer
    (line,) = [line for line in guarded.log().splitlines() if f"[{request_id}]" in line]
    assert f"GET {path} {status} " in line


def test_a_mishap_is_found_in_the_log_by_the_id_that_the_answer_says(make_server):
    live = make_server()
    live.save("runs/a")
    database = sqlite3.connect(live.root / ".holdfast" / "catalog.db")
    database.execute("DROP TABLE directories")
    database.commit()
    database.close()
    answer = live.http.get("/v1/directories")
    assert answer.status_code == 500
    request_id = answer.json()["request_id"]
    assert answer.headers["x-request-id"] == request_id
    assert eventually(lambda: "ERROR" in live.log())  # it is written after the answer
    complaints = [line for line in live.log().splitlines() if " ERROR: " in line]
    assert all(f"[{request_id}]" in line for line in complaints)


def test_no_line_of_the_log_moves_the_cursor_of_who_reads_it():
    record = logging.LogRecord("holdfast", logging.ERROR, "", 0, "GET %s failed", ("/v1/\x1b[2J\r\x9b1m",), None)
    _, _, said = Formatter().format(record).partition(" ")
    assert said == "ERROR: GET /v1/\\x1b[2J\\r\\x9b1m failed"


def test_no_secret_is_ever_in_the_log(make_server, directory):
    configured = "a-secret-that-an-operator-made-up"
    live = make_server(admin_token=configured, access_log="true")
    admin = mint(live.root, "admin")
    saved = live.http.post(
        f"/v1/checkpoints?directory={directory}", content=b"bytes", headers=bearer(configured)
    ).json()
    link = live.http.post(f"/v1/checkpoints/{saved['id']}/links", headers=bearer(admin)).json()["url"]
    for secret in (admin, configured, link.rpartition("/")[2]):
        for address in (f"/v1/{secret}", f"/v1/links/{secret}", f"/v1/info?{secret}=1", f"/v1/directories/{secret}"):
            answers = [
                live.http.get(address, headers={**bearer(admin), "X-Request-Id": "job"}),
                live.http.get(address, headers={"Authorization": secret, "Cookie": f"holdfast-session={secret}"}),
            ]
            for answer in answers:
                if answer.headers["content-type"] == "application/problem+json":
                    assert secret not in answer.json()["detail"], address
    session = live.http.post("/sign-in", content=f"token={admin}").cookies["holdfast-session"]
    live.http.cookies.clear()
    database = sqlite3.connect(live.root / ".holdfast" / "catalog.db")
    database.execute("DROP TABLE directories")  # so that there is something to complain about
    database.execute("CREATE TRIGGER no_key BEFORE INSERT ON link_keys BEGIN SELECT RAISE(ABORT, 'no key'); END")
    database.execute("DELETE FROM link_keys")
    database.commit()
    database.close()
    assert live.http.post(f"/v1/checkpoints/{saved['id']}/links", headers=bearer(admin)).status_code == 500
    for secret in (admin, configured):
        assert live.http.get(f"/v1/directories/{secret}", headers=bearer(admin)).status_code == 500
    assert eventually(lambda: live.log().count("Traceback") >= 3)
    said = live.log()
    for secret in (admin, admin[15:], configured, link.rpartition(".")[2], session):
        assert secret not in said
    assert "no key" in said
    assert re.findall("[0-9a-f]{64}", said) == []  # neither keys of links nor what is kept of tokens
    written = b"".join(path.read_bytes() for path in (live.root / ".holdfast").glob("catalog.db*"))
    for secret in (admin, configured, session):
        assert secret.encode() not in written
