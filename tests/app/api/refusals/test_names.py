"""Names outside the grammar: refused in every position, never normalised, without effect."""

from urllib.parse import quote

import pytest

from tests.app.api.refusals.requests import FILE, raw, refusal, reserve, save

NAME = (422, "invalid_name")

BAD_NAMES = [
    pytest.param("", id="empty"),
    pytest.param("..", id="parent"),
    pytest.param(".", id="itself"),
    pytest.param(".hidden", id="hidden"),
    pytest.param(".Holdfast", id="our own"),
    pytest.param(" a", id="begins with a space"),
    pytest.param("a ", id="ends with a space"),
    pytest.param("a.", id="ends with a dot"),
    pytest.param("a\\b", id="backslash"),
    pytest.param("a\0b", id="NUL"),
    pytest.param("a\nb", id="line feed"),
    pytest.param("a\u202eb", id="turns direction"),
    pytest.param("e\u0301", id="not NFC"),
    pytest.param("a%2e", id="percent"),
    pytest.param("C*", id="asterisk"),
    pytest.param("x" * 201, id="long component"),
    pytest.param("é" * 101, id="long component in bytes"),
]
BAD_PATHS = [
    *BAD_NAMES,
    pytest.param("/a", id="absolute"),
    pytest.param("a//b", id="empty component"),
    pytest.param("a/", id="ends with a slash"),
    pytest.param("a/../b", id="parent within"),
    pytest.param("../a", id="above"),
    pytest.param("/".join(["abcdefg"] * 150), id="long path"),
]


@pytest.mark.parametrize("name", BAD_PATHS)
def test_a_directory_outside_the_grammar_is_refused_everywhere(server, name):
    assert refusal(save(server, directory=name)) == NAME
    assert refusal(reserve(server, directory=name)) == NAME
    for what in ("", "/best", "/latest", "/best/content"):
        assert refusal(server.http.get(f"/v1/checkpoints{what}", params={"directory": name})) == NAME
    assert refusal(server.http.post("/v1/prune", json={"directory": name})) == NAME
    if name:
        assert refusal(server.http.get("/v1/directories", params={"prefix": name})) == NAME
        assert refusal(server.http.get("/v1/events", params={"prefix": name, "follow": False})) == NAME
    target = "/v1/directories/" + quote(name)
    expected = (404, "not_found") if "\n" in name else NAME  # an address cannot contain a line feed
    for method, body in (("GET", b""), ("DELETE", b""), ("PUT", b'{"mode": "min"}')):
        assert raw(server, method, target, body, **{"Content-Type": "application/json"}) == expected


@pytest.mark.parametrize("name", [*BAD_NAMES, "a/b", "directory"])
def test_a_checkpoint_name_outside_the_grammar_is_refused(server, name):
    assert refusal(save(server, name=name)) == NAME
    assert refusal(reserve(server, name=name)) == NAME


@pytest.mark.parametrize("path", [bad for bad in BAD_PATHS if bad.id != "hidden"])
def test_a_file_path_outside_the_grammar_is_refused(server, path):
    assert refusal(reserve(server, files=[{**FILE, "path": path}])) == NAME
    for target in ("/v1/checkpoints/0123/files/", "/v1/uploads/0123/files/"):
        method = "GET" if "checkpoints" in target else "PUT"
        expected = (404, "not_found") if "\n" in path else NAME
        assert raw(server, method, target + quote(path)) == expected


@pytest.mark.parametrize(
    "target",
    [
        "../a",
        "a/../../b",
        "%2e%2e/a",
        "a/%2E%2E/b",
        "%252e%252e/a",
        "..%2fa",
        "a%5cb",
        "a%00b",
        "%ff",
        "/etc/passwd",
        "",
    ],
)
def test_no_spelling_of_a_path_leads_out_of_the_root(server, target):
    assert raw(server, "GET", f"/v1/directories/{target}") == NAME
    assert raw(server, "GET", f"/v1/checkpoints/0123/files/{target}") == NAME
    assert raw(server, "POST", f"/v1/checkpoints?directory={target}", b"bytes") == NAME
