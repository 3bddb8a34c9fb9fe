"""Settings: which names each side reads, which values are refused, and that none of a client's opens a server."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from app.bootstrap import open_root
from app.core.units import parse_seconds
from app.settings import OF_CLIENTS, RENAMED, Settings, misspelt, renamed, variable_of
from tests.support.deadlines import DEADLINE_S
from tests.support.live import PROJECT, LiveServer
from tests.support.tokens import bearer, mint


def started(root, **environment):
    """Run a server that refuses to start; return its ended process."""
    command = [sys.executable, "-m", "app", "serve", "--port", "0", "--root", str(root)]
    variables = {**os.environ, **environment}
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=DEADLINE_S, check=False)


def names_in(folder):
    """The variables that the code below a folder names as whole strings, and so may look up."""
    return {
        node.value
        for path in Path(PROJECT, folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("HOLDFAST_")
        if node.value.replace("_", "").isalnum() and node.value.isupper()
    }


def test_no_name_is_read_by_both_sides():
    server = {f"HOLDFAST_{name.upper()}" for name in Settings.model_fields} | (names_in("app") - set(OF_CLIENTS))
    client = names_in("client/holdfast")
    assert set(OF_CLIENTS) & set(Settings.model_fields) == set()
    assert {"HOLDFAST_URL", "HOLDFAST_TOKEN", "HOLDFAST_SPOOL"} <= client
    assert "HOLDFAST_ADMIN_TOKEN" in server
    assert server.isdisjoint(client)


def test_a_token_of_a_client_is_no_key_of_a_server(tmp_path):
    root = tmp_path / "root"
    open_root(Settings(root=root)).close()
    narrow, file = mint(root, "read", prefix="team/a"), tmp_path / "client-token"
    file.write_text(narrow)
    with LiveServer(root, token=narrow, token_file=str(file)) as live:
        query = {"directory": "other"}
        answer = live.http.post("/v1/checkpoints", params=query, content=b"x", headers=bearer(narrow))
        assert answer.status_code in {403, 404}
        assert "HOLDFAST_TOKEN and HOLDFAST_TOKEN_FILE" in live.log()
        assert "ignores" in live.log()
        assert narrow not in live.log()


def test_a_server_with_a_clients_token_alone_does_not_listen_beyond_loopback(tmp_path):
    ended = started(tmp_path / "root", HOLDFAST_HOST="0.0.0.0", HOLDFAST_TOKEN="a long text, but a client's")
    assert ended.returncode == 2
    assert "HOLDFAST_ADMIN_TOKEN" in ended.stderr


def test_an_admin_token_of_a_clients_form_is_refused_in_words(tmp_path):
    open_root(Settings(root=tmp_path / "other")).close()
    token = mint(tmp_path / "other", "read")
    misspelt = token[:-1] + ("y" if token.endswith("x") else "x")
    for text in (token, f" {token}\n", misspelt):
        ended = started(tmp_path / "root", HOLDFAST_ADMIN_TOKEN=text)
        assert (ended.returncode, "for clients" in ended.stderr) == (2, True)
        assert token[15:] not in ended.stderr
    file = tmp_path / "file"
    file.write_text(misspelt)
    ended = started(tmp_path / "root", HOLDFAST_ADMIN_TOKEN_FILE=str(file))
    assert (ended.returncode, "for clients" in ended.stderr) == (2, True)


def test_white_space_around_a_secret_is_no_part_of_it(tmp_path):
    text = "an-admin-token-of-the-operator"
    with LiveServer(tmp_path / "root", admin_token=f"  {text}\n") as live:
        assert live.http.get("/v1/info", headers=bearer(text)).status_code == 200


@pytest.mark.parametrize(
    ("name", "given", "meant"),
    [
        ("host", " localhost\n", "localhost"),
        ("root", "/srv/holdfast\n", Path("/srv/holdfast")),
        ("database_url", " sqlite:////x.db\n", "sqlite:////x.db"),
        ("database_url", " ", None),
        ("admin_token_file", "/run/secrets/token\n", Path("/run/secrets/token")),
        ("admin_token_file", "", None),
        ("allowed_hosts", " a.example , *.b.example,\n", ("a.example", "*.b.example")),
        ("allowed_hosts", "", ()),
        ("allowed_hosts", '["a.example "]', ("a.example",)),
        ("root_path", "holdfast/ ", "/holdfast"),
        ("root_path", "/", ""),
    ],
)
def test_white_space_around_a_setting_is_dropped(name, given, meant):
    assert getattr(Settings(**{name: given}), name) == meant


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("host", "local\nhost", "line break"),
        ("host", "", "HOST|string"),
        ("root", "~/data", "only a shell"),
        ("root", "$HOME/data", "only a shell"),
        ("root", "/srv/a\nb", "line break"),
        ("admin_token_file", "~/token", "only a shell"),
        ("database_url", "sqlite:////a\n.db", "line break"),
        ("allowed_hosts", "https://a.example", "host names"),
        ("allowed_hosts", "a.example:8420", "host names"),
        ("allowed_hosts", "a.example b.example", "host names"),
        ("root_path", "/a/../b", "a path such as"),
        ("root_path", "https://a.example/b", "a path such as"),
    ],
)
def test_a_setting_that_cannot_be_meant_is_refused_in_words(name, given, said):
    with pytest.raises(ValidationError, match=said):
        Settings(**{name: given})


def test_a_password_in_a_database_url_is_not_repeated(tmp_path):
    ended = started(tmp_path / "root", HOLDFAST_DATABASE_URL="sqlite://user:hunter2@/nowhere/x.db")
    assert (ended.returncode, "hunter2" in ended.stderr) == (2, False)
    ended = started(tmp_path / "root", HOLDFAST_DATABASE_URL="postgresql://user:hunter2@host/x")
    assert (ended.returncode, "hunter2" in ended.stderr) == (2, False)


def test_a_token_in_the_place_of_its_file_is_neither_shown_nor_made_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = started(tmp_path / "root", HOLDFAST_ADMIN_TOKEN_FILE="hfst_SECRETsecretSECRETsecret0123456789")
    assert (done.returncode, "HOLDFAST_ADMIN_TOKEN_FILE" in done.stderr) == (2, True)
    assert "SECRET" not in done.stdout + done.stderr
    assert not [path for path in tmp_path.iterdir() if "SECRET" in path.name]


def test_a_misspelt_setting_is_named_with_the_one_that_is_near(tmp_path):
    names = ("HOLDFAST_UNDO", "HOLDFAST_UNDO_WINDOWS", "HOLDFAST_URL", "HOLDFAST_PROGRESS", "HOLDFAST_PREFIX", "HOME")
    assert misspelt(names) == {
        "HOLDFAST_UNDO": "HOLDFAST_UNDO_WINDOW",
        "HOLDFAST_UNDO_WINDOWS": "HOLDFAST_UNDO_WINDOW",
    }
    assert misspelt(f"HOLDFAST_{name.upper()}" for name in Settings.model_fields) == {}
    with LiveServer(tmp_path / "root", undo_windows="1h") as live:
        assert "did you mean HOLDFAST_UNDO_WINDOW?" in live.log()


def test_a_former_name_of_a_setting_is_read_and_the_present_one_wins(monkeypatch):
    monkeypatch.setenv("HOLDFAST_LEND_SOCKETS", "false")
    assert Settings().socket_handover is False
    assert Settings(socket_handover=True).socket_handover is True
    monkeypatch.setenv("HOLDFAST_SOCKET_HANDOVER", "true")
    assert Settings().socket_handover is True
    assert renamed(os.environ) == {"HOLDFAST_LEND_SOCKETS": "HOLDFAST_SOCKET_HANDOVER"}
    assert set(RENAMED.values()) <= set(Settings.model_fields)
    assert misspelt(["HOLDFAST_LEND_SOCKETS"]) == {}


def test_a_former_name_of_a_setting_may_be_in_small_letters(monkeypatch):
    """As the present names may."""
    monkeypatch.setenv("holdfast_lend_sockets", "false")
    assert Settings().socket_handover is False
    assert renamed(os.environ) == {"holdfast_lend_sockets": "HOLDFAST_SOCKET_HANDOVER"}


def test_a_wrong_value_is_reported_by_the_name_that_was_set(monkeypatch):
    assert variable_of("socket_handover", {}) == "HOLDFAST_SOCKET_HANDOVER"
    assert variable_of("socket_handover", {"HOLDFAST_LEND_SOCKETS": "zz"}) == "HOLDFAST_LEND_SOCKETS"
    both = {"HOLDFAST_LEND_SOCKETS": "zz", "holdfast_socket_handover": "zz"}
    assert variable_of("socket_handover", both) == "HOLDFAST_SOCKET_HANDOVER"


def test_a_former_name_of_a_setting_is_warned_about_at_start(tmp_path):
    with LiveServer(tmp_path / "root", lend_sockets="false") as live:
        assert "HOLDFAST_LEND_SOCKETS is a former name of HOLDFAST_SOCKET_HANDOVER" in live.log()


def test_a_former_flag_is_read_and_warned_about(tmp_path):
    command = [sys.executable, "-m", "app", "serve", "--root", str(tmp_path / "root"), "--lend-sockets", "perhaps"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert ended.returncode == 2
    assert "--lend-sockets is a former name of --socket-handover" in ended.stderr
    assert "HOLDFAST_SOCKET_HANDOVER: " in ended.stderr


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("QUOTAS", "{bad", "HOLDFAST_QUOTAS: must be a JSON object of prefixes"),
        ("UNDO_WINDOW", "2x", "HOLDFAST_UNDO_WINDOW: must be a number of seconds, or a duration such as 30m"),
        ("RESERVE_BYTES", "1XB", "HOLDFAST_RESERVE_BYTES: must be a whole number"),
    ],
)
def test_what_is_wrong_with_a_setting_is_said_in_words_of_the_server(tmp_path, name, value, said):
    done = started(tmp_path / "root", **{f"HOLDFAST_{name}": value})
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr


def test_a_number_of_bytes_may_have_a_unit():
    given = [Settings(reserve_bytes=value).reserve_bytes for value in ("1GB", "2MiB", "5", 7)]
    assert given == [10**9, 2 * 2**20, 5, 7]


@pytest.mark.parametrize(("name", "least"), [("keep_events", "1h"), ("keep_audit", "7d"), ("keep_removed", "1h")])
def test_nothing_is_kept_for_less_than_its_floor(tmp_path, name, least):
    assert getattr(Settings(**{name: least}), name) == parse_seconds(least)
    assert getattr(Settings(**{name: "Forever"}), name) is None
    for refused in ("0", "59m", "-1", "nan", "1000000d", "never"):
        with pytest.raises(ValidationError, match="forever"):
            Settings(**{name: refused})
    ended = started(tmp_path / "root", **{f"HOLDFAST_{name.upper()}": "59m"})
    assert ended.returncode != 0
    assert f"HOLDFAST_{name.upper()}" in ended.stderr
    assert f"must be at least {least}" in ended.stderr
    assert not (tmp_path / "root").exists()
