"""Texts that want to be somewhere else, and every place of the API that takes a text, found in its description."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import quote

CANARY = "canary-5d1f0c9a"
"""The content of files that no answer may hold."""

TEXTS = [
    *(
        "",
        " ",
        ".",
        "..",
        "../",
        "../..",
        "./a",
        "a/..",
        "a/../../b",
        "a//b",
        "a/",
        "/",
        "//a",
        "..a",
        ".a",
        "a.",
        "...",
        "~",
    ),
    *("../outside/secret", "../../outside/secret", "a/../../outside/secret", ".holdfast/canary", "/outside/secret"),
    *("/etc/passwd", "/dev/zero", "/proc/self/mem", "/proc/self/environ", "/proc/self/fd/0", "file:///etc/passwd"),
    *(
        "..\\outside\\secret",
        "C:\\a",
        "\\\\?\\C:\\a",
        "\\\\host\\share",
        "CON",
        "NUL",
        "COM1.pt",
        "aux.json",
        "a:$DATA",
    ),
    *("%2e%2e", "%2e%2e%2foutside%2fsecret", "%252e%252e%252f", "%c0%ae%c0%ae", "%uff0e%uff0e", "%00", "a%00.pt"),
    *("a;b", "..;/", "a#b", "a?b", "a&b=c", "a\0b", "a\nb", "a\r\nX-Evil: 1", "a\tb", "\x1b]0;a\x07", "\x7f", "\x85"),
    *(
        ".holdfast",
        ".HoldFast",
        ".HOLDFAST",
        "a/.holdfast/b",
        ".holdfast ",
        ".holdfast.",
        ".holdfa\u017ft",
        ".holdfa\ufb06",
    ),
    *(
        "．．",
        "．．/outside",
        "․․",
        "‥",
        "．holdfast",
        "..／outside",
        "..∕outside",
        "..⁄outside",
        "﹒﹒",
        "｡｡",
        "․holdfast",
    ),
    *(
        ".\u200b.",
        "\u200b",
        "a\u202eb",
        "\u2066..",
        "\ufeff",
        "a\u00adb",
        "a\ufe0f",
        ".holdfast\ufe0f",
        "\u3164",
        "a\u034fb",
    ),
    *(
        "e\u0301",
        "\u0131",
        "\u0130",
        "i\u0307",
        "K",
        "ﬀ",
        "\u1112\u1161\u11ab",
        "é" * 100,
        "é" * 101,
        "\U0010ffff",
        "\ue000",
    ),
    *(
        " a",
        "a ",
        "\u00a0a",
        "a\u3000",
        "-rf",
        "--root=/",
        "$HOME",
        "$(id)",
        "`id`",
        "a|b",
        "a'b",
        'a"b',
        "<b>",
        "*",
        "{}",
    ),
    *("directory", "directory.json", "a.json", "best", "latest", "null", "true", "1e999", "-0", "[]", "NaN", "\u0663"),
    *("a" * 200, "a" * 201, "a" * 64, "a" * 65, "a/" * 511 + "a", "a/" * 511 + "ab", "a/" * 512 + "a", "é" * 30_000),
]
IN_JSON = ["\ud800", "a\udfff", "\ud83d"]
"""Half characters, which only JSON can say."""
IN_ADDRESSES = [
    *(b"..", b"../..", b"%2e%2e", b"%2E%2e%2foutside%2Fsecret", b"..%2foutside%2fsecret", b"%2e%2e/outside/secret"),
    *(b"..%5coutside", b"..\\outside", b"%c0%ae%c0%ae%c0%af", b"\xc0\xae\xc0\xae/", b"%e0%80%ae", b"%ff", b"\xff\xfe"),
    *(
        b"%",
        b"%zz",
        b"%u002e",
        b"%00",
        b"a%00b",
        b"..;/a",
        b"a#b",
        b"a?b",
        b"a&b",
        b"%0d%0aX-Evil:%201",
        b"+",
        b"%ed%a0%80",
    ),
    *(b"//host/a", b"/..", b"./", b"%2f", b"%2fetc%2fpasswd", b".holdfast%2fcanary", b"a" * 60_000),
]
"""Texts that go into a URL unescaped."""
IN_BODIES = [
    b"\xff",
    b"\xc0\xae\xc0\xae/",
    b"\xed\xa0\x80",
    b"\x00",
    b"\n",
    b"\\u0000",
    b"\\ud800",
    b"\\u002e\\u002e/a",
    b"\\x",
]
"""Texts between the quotes of a JSON string."""

CHOICE = " (a number or a choice)"


class Request(NamedTuple):
    """A request as it goes over the wire, and what it tries where."""

    method: str
    path: str
    what: str
    target: bytes
    headers: bytes
    body: bytes | None
    in_path: bool


class Api:
    """The requests that a description allows, each with one text in one place.

    Parameters
    ----------
    description : dict
        The API's description.
    known : dict
        Parameters and fields that have to be given, by name; a value of the right kind where there is none. Those that
        stand under ``always`` are given although they need not, and come first.
    """

    def __init__(self, description: dict[str, Any], known: dict[str, str]) -> None:
        self._description = description
        self._known = known

    def operations(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Every method and path with its description."""
        for path, methods in self._description["paths"].items():
            for method, operation in methods.items():
                yield method.upper(), path, operation

    def requests(self) -> Iterator[Request]:
        """Every text in every place."""
        for method, path, operation in self.operations():
            for parameter in operation.get("parameters", []):
                yield from self._in_parameter(method, path, operation, parameter)
            schema = self._schema_of_body(operation)
            for where, value in self._places(schema, "") if schema else ():
                yield from self._in_body(method, path, operation, where, value)

    def _in_parameter(
        self, method: str, path: str, operation: dict[str, Any], parameter: dict[str, Any]
    ) -> Iterator[Request]:
        name, place = parameter["name"], parameter["in"]
        said = [text.encode() for text in TEXTS]
        if place == "header":
            sent = [text for text in said if not set(text) & set(b"\r\n\0")]
        else:
            sent = [quote(text).encode() for text in said] + IN_ADDRESSES
            sent += [quote(text, safe="").encode() for text in said if b"/" in text]
        if not _takes_any_text(parameter["schema"]):
            sent = sent[::5]
        for text in sent:
            if name in self._known.get("always", ()) and text == b"true":
                continue
            given = {(place, name): text}
            what = f"{place} {name}={text[:80]!r}"
            yield self._request(method, path, operation, what, given, self._body(operation))

    def _in_body(self, method: str, path: str, operation: dict[str, Any], where: str, value: Any) -> Iterator[Request]:
        whole = json.dumps(value).encode()
        texts = [json.dumps(text)[1:-1].encode() for text in TEXTS + IN_JSON] + IN_BODIES
        for text in texts[::5] if where.endswith(CHOICE) else texts:
            what = f"body {where}={text[:80]!r}"
            yield self._request(method, path, operation, what, {}, whole.replace(b"@@", text))

    def _request(
        self,
        method: str,
        path: str,
        operation: dict[str, Any],
        what: str,
        given: dict[tuple[str, str], bytes],
        body: bytes | None,
    ) -> Request:
        target, query, headers = path.encode(), [], b""
        for parameter in operation.get("parameters", []):
            place, name = parameter["in"], parameter["name"]
            value = given.get((place, name))
            if value is None and (parameter.get("required") or name in self._known.get("always", ())):
                value = str(self._filled(parameter["schema"], name)).encode()
            if value is None:
                continue
            if place == "path":
                target = target.replace(b"{" + name.encode() + b"}", value)
            elif place == "query":
                query.insert(0 if name in self._known.get("always", ()) else len(query), name.encode() + b"=" + value)
            else:
                headers += name.encode() + b": " + value + b"\r\n"
        if query:
            target += b"?" + b"&".join(query)
        if body is not None and self._schema_of_body(operation):
            headers += b"Content-Type: application/json\r\n"
        return Request(method, path, what, target, headers, body, any(place == "path" for place, _ in given))

    # schemas

    def _schema_of_body(self, operation: dict[str, Any]) -> Any:
        return operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")

    def _body(self, operation: dict[str, Any]) -> bytes | None:
        if "requestBody" not in operation:
            return None
        schema = self._schema_of_body(operation)
        return json.dumps(self._filled(schema, "")).encode() if schema else b"x"

    def _resolved(self, schema: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in schema:
            schema = self._description["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        return schema

    def _filled(self, schema: dict[str, Any], name: str) -> Any:
        """The least that a schema allows."""
        schema = self._resolved(schema)
        if "anyOf" in schema:
            return self._filled(schema["anyOf"][0], name)
        if name in self._known:
            return self._known[name]
        if "enum" in schema:
            return schema["enum"][0]
        kind = schema.get("type")
        if kind == "object":
            return {key: self._filled(schema["properties"][key], key) for key in schema.get("required", [])}
        if kind == "array":
            return [self._filled(schema["items"], name)] if schema.get("minItems") else []
        return {"integer": 1, "number": 1.0, "boolean": False}.get(str(kind), "a" * 64)

    def _places(self, schema: dict[str, Any], name: str) -> Iterator[tuple[str, Any]]:
        """Every place for a value within a schema, and the least around it, with ``@@`` there."""
        schema = self._resolved(schema)
        if "anyOf" in schema:
            for variant in schema["anyOf"]:
                if variant.get("type") != "null":
                    yield from self._places(variant, name)
        elif schema.get("type") == "object":
            around = self._filled(schema, name)
            for key, inner in schema.get("properties", {}).items():
                for where, value in self._places(inner, key):
                    yield f"{name}.{where}", {**around, key: value}
            if schema.get("additionalProperties"):
                yield f"{name}.key", {"@@": 1}
                yield f"{name}.value", {"a": "@@"}
            yield f"{name}.unknown", {**around, "@@": 1}
        elif schema.get("type") == "array":
            for where, value in self._places(schema["items"], name):
                yield where, [value]
        else:
            yield name if _takes_any_text(schema) else f"{name}{CHOICE}", "@@"


def _takes_any_text(schema: dict[str, Any]) -> bool:
    """Tell if it is neither a number nor a choice among a few."""
    said = json.dumps(schema)
    return '"enum"' not in said and ('"string"' in said or "type" not in schema)
