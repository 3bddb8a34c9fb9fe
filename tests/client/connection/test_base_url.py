"""Base URL and token: stripped, or refused at once, and never shown if they are secret."""

import pytest

from holdfast import CheckpointManager, InvalidRequest
from holdfast._connection.base_url import base_url_of
from holdfast._connection.token import Token
from holdfast._runtime.redaction import redact_chain, redacted, shown_url

SECRET = "hfst_1234567890_a-secret"


@pytest.fixture(autouse=True)
def _bare(monkeypatch):
    for name in ("HOLDFAST_URL", "HOLDFAST_TOKEN", "HOLDFAST_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("given", "url"),
    [
        (" http://host:8420\n", "http://host:8420"),
        ("http://host:8420/", "http://host:8420"),
        ("https://host/holdfast/", "https://host/holdfast"),
        ("http://host/v1", "http://host"),
        ("http://host/v1/", "http://host"),
        ("http://host/v1/v1//", "http://host"),
        ("https://host/holdfast/v1", "https://host/holdfast"),
        ("https://host/v11", "https://host/v11"),
        ("http://[::1]:8420", "http://[::1]:8420"),
        ("http://user:secret@host:8420/x", "http://host:8420/x"),
    ],
)
def test_a_url_is_the_base_of_the_api(monkeypatch, given, url):
    assert base_url_of(given).url == url
    monkeypatch.setenv("HOLDFAST_URL", given)
    assert base_url_of(None).url == url
    assert "secret" not in repr(base_url_of(None))


@pytest.mark.parametrize(
    "given",
    [
        f"user:{SECRET}@host",
        f"http:/user:{SECRET}@host",
        f"http://user:{SECRET}@",
        f"http://user:{SECRET}@host:port",
        f"http://user:a/{SECRET}@host",
        f"http://user/{SECRET}@host",
        f"http://user:{SECRET}@ho st",
        f"http://user:{SECRET}\n@host",
        f"ftp://user:{SECRET}@host",
        f"http://host?token={SECRET}",
        f"http://host/#{SECRET}",
        f"http://[{SECRET}@host",
    ],
)
def test_what_is_no_url_of_a_server_is_refused_without_its_login(monkeypatch, given):
    monkeypatch.setenv("HOLDFAST_URL", given)
    for server in (None, given):
        with pytest.raises(InvalidRequest) as raised:
            CheckpointManager("runs/a", server=server)
        assert SECRET not in f"{raised.value!s}{raised.value.__cause__}{raised.value.__context__}"
        assert isinstance(raised.value, ValueError)
        assert raised.value.code == "invalid_setting"


@pytest.mark.parametrize("around", ["{}\n", " {}", "{}\r\n", "\t{} \n\n", "\ufeff{}"])
def test_what_stands_around_a_token_is_taken_off(monkeypatch, tmp_path, around):
    text = around.format(SECRET)
    (tmp_path / "token").write_text(text)
    assert Token.of(file=tmp_path / "token").value == SECRET
    if "\ufeff" not in around:
        assert Token.of(text).value == SECRET
        monkeypatch.setenv("HOLDFAST_TOKEN", text)
        assert Token.of().value == SECRET
        assert SECRET not in repr(Token.of()) + Token.of().key


@pytest.mark.parametrize(
    "wrong", [f"Bearer {SECRET}", f"{SECRET}\nX: y", f"{SECRET}\x01", f"{SECRET}é", f"{SECRET}\x7f"]
)
def test_what_is_no_token_is_refused_without_being_shown(monkeypatch, tmp_path, wrong):
    (tmp_path / "token").write_text(wrong)
    monkeypatch.setenv("HOLDFAST_TOKEN", wrong)
    ways = ({"token": wrong}, {"token_file": tmp_path / "token"}, {})
    for way, named in zip(ways, ("token", "token_file", "HOLDFAST_TOKEN"), strict=True):
        with pytest.raises(InvalidRequest, match=f"^{named} ") as raised:
            CheckpointManager("runs/a", **way)
        assert SECRET not in f"{raised.value!s}{raised.value.__cause__}{raised.value.__context__}"
        assert raised.value.code == "invalid_setting"


def test_the_nearer_and_the_more_definite_token_is_used(monkeypatch, tmp_path):
    for name in ("keyword", "environment"):
        (tmp_path / name).write_text(f"from-{name}")
    assert Token.of().value is None
    monkeypatch.setenv("HOLDFAST_TOKEN_FILE", str(tmp_path / "environment"))
    assert Token.of().value == "from-environment"
    monkeypatch.setenv("HOLDFAST_TOKEN", "\n")
    assert Token.of("").value == "from-environment"
    monkeypatch.setenv("HOLDFAST_TOKEN", "from-token")
    assert Token.of().value == "from-token"
    assert Token.of(file=tmp_path / "keyword").value == "from-keyword"
    assert Token.of("given").value == "given"
    with pytest.raises(InvalidRequest, match="both"):
        Token.of("given", tmp_path / "keyword")


@pytest.mark.parametrize("content", [None, b"", b" \n", b"\xff\xfe"], ids=["absent", "empty", "blank", "no text"])
def test_a_token_file_without_a_token_is_refused_at_once(monkeypatch, tmp_path, content):
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InvalidRequest, match=f"^token_file names {file}"):
        CheckpointManager("runs/a", token_file=file)
    monkeypatch.setenv("HOLDFAST_TOKEN_FILE", str(file))
    with pytest.raises(InvalidRequest, match=f"^HOLDFAST_TOKEN_FILE names {file}") as raised:
        CheckpointManager("runs/a")
    assert not isinstance(raised.value, OSError)


def test_a_folder_is_no_token_file(tmp_path):
    with pytest.raises(InvalidRequest, match="not a regular file"):
        CheckpointManager("runs/a", token_file=tmp_path)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"sent {SECRET} there", "sent … there"),
        ("https://user:pa:ss@host/path", "https://host/path"),
        ("https://s3/key?X-Amz-Date=1&X-Amz-Signature=abc is gone", "https://s3/key?… is gone"),
        ("/v1/x?part=1&signature=abc'", "/v1/x?…'"),
        ("Authorization: Bearer abcdefghijklmnopqrst", "Authorization: Bearer …"),
        ("/v1/checkpoints?directory=runs/a&page_token=x", "/v1/checkpoints?directory=runs/a&page_token=x"),
        ("Basic authentication is needed", "Basic authentication is needed"),
    ],
)
def test_what_is_secret_is_taken_out_of_a_text(text, shown):
    assert redacted(text, [SECRET]) == shown


def test_a_url_is_shown_without_its_secrets():
    assert shown_url(" https://u:p@host/a?b=c#d ") == "https://host/a"
    assert shown_url("u:p@host") == "host"


def test_all_that_led_to_an_error_is_redacted():
    error = RuntimeError(SECRET.encode(), 7)
    error.__cause__ = ValueError(f"Illegal header value b'{SECRET}'")
    error.__cause__.__context__ = OSError(f"https://user:{SECRET}@proxy")
    redact_chain(error, [SECRET])
    assert SECRET not in f"{error!r}{error.__cause__!r}{error.__cause__.__context__!r}"
    assert error.args[1] == 7
