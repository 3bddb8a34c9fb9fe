"""Tokens for the operator: the commands, the first start, and a server that stays closed."""

import contextlib
import io
import json
import shutil
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from typing import NamedTuple

import pytest

from app.__main__ import main
from app.auth import token_format
from tests.support.deadlines import DEADLINE_S
from tests.support.live import PROJECT, LiveServer
from tests.support.tokens import bearer, mint

CONFIGURED = "a-secret-that-docker-mounted"


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def run(root, *arguments):
    """Run a command of tokens; return its output and status."""
    said, complained = io.StringIO(), io.StringIO()
    with redirect_stdout(said), redirect_stderr(complained):
        try:
            ended = main(["token", arguments[0], "--root", str(root), *arguments[1:]])
        except SystemExit as exit:
            ended = exit.code
    return Done(ended, said.getvalue(), complained.getvalue())


def status(server, token=None):
    return server.http.get("/v1/info", headers=bearer(token) if token else {}).status_code


def test_a_token_is_made_listed_used_and_revoked_while_the_server_runs(own_server):
    root = own_server.root
    assert status(own_server) == 200
    made = run(root, "create", "--scope", "read", "--scope", "write", "--prefix", "team/a", "--expires", "90d")
    assert made.returncode == 0
    token = made.stdout.strip()
    assert token_format.id_of(token) is not None
    assert "not shown again" in made.stderr
    assert token not in made.stderr
    assert status(own_server) == 401, "the first token closes the server"
    assert status(own_server, token) == 200

    (listed,) = json.loads(run(root, "list", "--json").stdout)
    assert listed["id"] == token[5:15]
    assert (listed["scopes"], listed["prefix"], listed["state"]) == (["read", "write"], "team/a", "valid")
    table = run(root, "list").stdout
    assert token[5:15] in table
    assert token not in table

    assert run(root, "revoke", token[5:15]).returncode == 0
    assert status(own_server, token) == 401
    assert json.loads(run(root, "list", "--json").stdout)[0]["state"] == "revoked"
    assert run(root, "revoke", token[5:15]).returncode == 0, "twice is once"
    missing = run(root, "revoke", "0000000000")
    assert (missing.returncode, "0000000000" in missing.stderr) == (1, True)
    assert status(own_server) == 401, "and it stays closed"


def test_a_token_can_be_made_before_the_first_start(tmp_path):
    token = run(tmp_path / "root", "create", "--scope", "admin").stdout.strip()
    with LiveServer(tmp_path / "root") as live:
        assert status(live) == 401
        assert status(live, token) == 200


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["--scope", "everything"], "invalid choice", id="a scope that there is not"),
        pytest.param([], "--scope", id="no scope"),
        pytest.param(["--scope", "read", "--prefix", "../x"], "begins with a dot", id="a prefix outside the grammar"),
        pytest.param(["--scope", "read", "--expires", "soon"], "90d", id="an expiry that is no time"),
        pytest.param(["--scope", "read", "--expires", "0m"], "expired already", id="one that is over"),
        pytest.param(["--scope", "read", "--note", "x" * 201], "200", id="too long a note"),
        pytest.param(["--scope", "read", "--note", "a\nb"], "printed", id="a note of two lines"),
    ],
)
def test_a_token_that_makes_no_sense_is_not_made(tmp_path, arguments, said):
    done = run(tmp_path / "root", "create", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_the_first_start_makes_a_token_where_that_is_wanted(tmp_path):
    file = tmp_path / "secrets" / "token"
    file.parent.mkdir()
    with LiveServer(tmp_path / "root", admin_token_file=str(file), host="0.0.0.0") as live:
        live.http.base_url = live.url = live.url.replace("0.0.0.0", "127.0.0.1")
        token = file.read_text().strip()
        assert token_format.id_of(token) is not None
        assert file.stat().st_mode & 0o777 == 0o600
        assert list(file.parent.iterdir()) == [file]
        assert token not in live.log()
        assert (status(live), status(live, token)) == (401, 200)
        live.restart()
        live.http.base_url = live.url.replace("0.0.0.0", "127.0.0.1")
        assert file.read_text().strip() == token
        assert status(live, token) == 200
        assert run(live.root, "revoke", token[5:15]).returncode == 0
        live.restart()
        live.http.base_url = live.url.replace("0.0.0.0", "127.0.0.1")
        assert status(live, token) == 401, "the file does not bring a revoked token back"


def test_a_file_that_is_there_holds_the_token(tmp_path):
    file = tmp_path / "token"
    file.write_text(f"{CONFIGURED}\n")
    with LiveServer(tmp_path / "root", admin_token_file=str(file)) as live:
        assert status(live, CONFIGURED) == 200
        assert status(live, "another-secret-just-as-long") == 401


@pytest.mark.parametrize("content", ["", "short"])
def test_a_file_with_a_token_that_can_be_guessed_is_refused(tmp_path, content):
    file = tmp_path / "token"
    file.write_text(content)
    with pytest.raises(RuntimeError, match="16 characters"), LiveServer(tmp_path / "root", admin_token_file=str(file)):
        pass


def test_a_file_that_cannot_be_made_is_told(tmp_path):
    with (
        pytest.raises(RuntimeError, match="HOLDFAST_ADMIN_TOKEN_FILE"),
        LiveServer(tmp_path / "root", admin_token_file=str(tmp_path / "nowhere" / "token")),
    ):
        pass


def test_a_server_that_lost_its_catalog_does_not_open(tmp_path):
    root = tmp_path / "root"
    token = mint_before_start(root)
    with LiveServer(root) as live:
        assert status(live, token) == 200
        live.http.post("/v1/checkpoints?directory=runs/a", content=b"x", headers=bearer(token)).raise_for_status()
        live.kill()
        for path in (root / ".holdfast").glob("catalog.db*"):
            path.unlink()
        live.start()
        assert (status(live), status(live, token)) == (401, 401)
        again = mint(root, "read")
        assert live.http.get("/v1/directories/runs/a", headers=bearer(again)).status_code == 200


def test_a_server_that_is_started_without_its_configured_token_does_not_open(make_server, tmp_path):
    file = tmp_path / "token"
    file.write_text(CONFIGURED)
    for number, setting in enumerate(({"admin_token": CONFIGURED}, {"admin_token_file": str(file)})):
        root = tmp_path / f"root-{number}"
        with LiveServer(root, **setting) as live:
            assert status(live, CONFIGURED) == 200
            assert live.stop() == 0
        again = make_server(root)
        assert (status(again), status(again, CONFIGURED)) == (401, 401)


def test_a_token_that_was_revoked_stays_so_when_the_catalog_is_lost(tmp_path):
    file, root = tmp_path / "token", tmp_path / "root"
    with LiveServer(root, admin_token_file=str(file)) as live:
        token = file.read_text().strip()
        assert run(root, "revoke", token[5:15]).returncode == 0
        live.kill()
        for path in (root / ".holdfast").glob("catalog.db*"):
            path.unlink()
        live.start()
        assert (status(live), status(live, token)) == (401, 401)
        assert run(root, "create", "--scope", "admin").returncode == 0


def test_a_token_in_the_file_may_no_more_when_the_catalog_is_lost(tmp_path):
    file, root = tmp_path / "token", tmp_path / "root"
    file.write_text(run(root, "create", "--scope", "read").stdout)
    token = file.read_text().strip()
    with LiveServer(root, admin_token_file=str(file)) as live:
        assert live.http.get("/v1/audit", headers=bearer(token)).status_code == 403
        live.kill()
        for path in (root / ".holdfast").glob("catalog.db*"):
            path.unlink()
        live.start()
        assert status(live, token) == 401
        assert "token create" in live.log()


def test_a_new_root_refuses_a_token_that_was_made_for_another_one(tmp_path):
    file = tmp_path / "token"
    file.write_text(run(tmp_path / "other", "create", "--scope", "read").stdout)
    with (
        pytest.raises(RuntimeError, match="made for another root"),
        LiveServer(tmp_path / "root", admin_token_file=str(file)),
    ):
        pass


def test_a_first_start_that_was_cut_off_before_its_file_was_there_is_finished(tmp_path):
    file, root = tmp_path / "token", tmp_path / "root"
    left, other = tmp_path / "token.abcd1234", tmp_path / "token.abcd0000"
    left.write_text(run(root, "create", "--scope", "admin").stdout)
    other.write_text(run(tmp_path / "other", "create", "--scope", "admin").stdout)
    token = left.read_text()
    with LiveServer(root, admin_token_file=str(file)) as live:
        assert file.read_text() == token
        assert status(live, token.strip()) == 200
        assert status(live, other.read_text().strip()) == 401


def test_a_token_that_was_revoked_stays_so_when_the_catalog_is_an_older_one(tmp_path):
    root, copy = tmp_path / "root", tmp_path / "copy.db"
    revoked, kept = mint_before_start(root), mint_before_start(root)
    catalog = root / ".holdfast" / "catalog.db"
    shutil.copy(catalog, copy)
    assert run(root, "revoke", revoked[5:15]).returncode == 0
    shutil.copy(copy, catalog)
    with LiveServer(root) as live:
        assert (status(live, revoked), status(live, kept)) == (401, 200)


def test_a_file_in_the_root_is_no_fault_of_it(tmp_path, monkeypatch):
    root, file = tmp_path / "root", tmp_path / "root" / ".admin-token"  # as in the container
    monkeypatch.setenv("HOLDFAST_ADMIN_TOKEN_FILE", str(file))
    with LiveServer(root) as live:
        assert live.stop() == 0
    assert file.is_file()
    assert main(["fsck", "--root", str(root), "--dry-run"]) == 0
    assert main(["fsck", "--root", str(root)]) == 0
    monkeypatch.delenv("HOLDFAST_ADMIN_TOKEN_FILE")
    assert main(["fsck", "--root", str(root)]) == 4


def test_a_file_that_is_no_text_is_told(tmp_path):
    file = tmp_path / "token"
    file.write_bytes(b"\xff" * 20)
    with (
        pytest.raises(RuntimeError, match="HOLDFAST_ADMIN_TOKEN_FILE: 'utf-8' codec"),
        LiveServer(tmp_path / "root", admin_token_file=str(file)),
    ):
        pass


def mint_before_start(root):
    return run(root, "create", "--scope", "admin").stdout.strip()


def test_reindexing_keeps_the_tokens(tmp_path):
    root = tmp_path / "root"
    token = mint_before_start(root)
    command = [sys.executable, "-m", "app", "reindex", "--root", str(root)]
    subprocess.run(command, cwd=PROJECT, check=True, capture_output=True, timeout=DEADLINE_S)
    with LiveServer(root) as live:
        assert status(live, token) == 200


def test_beyond_loopback_a_server_starts_once_there_is_a_token(tmp_path):
    with contextlib.suppress(RuntimeError), LiveServer(tmp_path / "root", host="0.0.0.0"):
        pytest.fail("it started without a token")
    with LiveServer(tmp_path / "root"):
        pass
    with pytest.raises(RuntimeError, match="token create"), LiveServer(tmp_path / "root", host="0.0.0.0"):
        pass
    mint(tmp_path / "root", "read")
    with LiveServer(tmp_path / "root", host="0.0.0.0") as live:
        live.http.base_url = live.url.replace("0.0.0.0", "127.0.0.1")
        assert status(live) == 401


def test_rotating_the_key_is_told(own_server):
    assert "stay valid" in run(own_server.root, "rotate-link-key").stderr
    assert "invalid now" in run(own_server.root, "rotate-link-key", "--drop").stderr
