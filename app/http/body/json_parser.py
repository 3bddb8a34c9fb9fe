"""JSON parser that works in pieces, so that other threads can run while a large body is parsed. Pure.

`json.loads` holds the interpreter lock from the first character to the last. Here each call parses one piece only,
except for a long string and for values nested deeper than any valid body. Values and errors are those of `json.loads`.
"""

import json
from collections.abc import Callable
from json.decoder import WHITESPACE, JSONArray, JSONDecodeError, JSONObject  # type: ignore[attr-defined]
from typing import Any

PIECE_CHARACTERS = 64 * 1024
"""The amount parsed at once; about one millisecond."""
DEEPEST = 100
"""The depth down to which JSON is split into pieces. No valid body is nested as deep."""
_scan: Callable[[str, int], tuple[Any, int]] = json.JSONDecoder().scan_once  # type: ignore[attr-defined]
_NOT_WHOLE = (StopIteration, ValueError, RecursionError)


def loads(data: bytes) -> Any:
    """Parse JSON as `json.loads` does.

    Raises
    ------
    json.JSONDecodeError
        The data is not JSON.
    ValueError
        The data is not Unicode text, or a number has too many digits.
    RecursionError
        A value is nested too deep.
    """
    return _Parser(data.decode(json.detect_encoding(data), "surrogatepass")).parse()


class _Parser:
    """State of parsing one text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._piece, self._base = "", 0
        self._depth = 0

    def parse(self) -> Any:
        try:
            value, end = self._value(self._text, _after_space(self._text, 0))
        except StopIteration as error:
            raise JSONDecodeError("Expecting value", self._text, error.value) from None
        end = _after_space(self._text, end)
        if end != len(self._text):
            raise JSONDecodeError("Extra data", self._text, end)
        return value

    def _value(self, text: str, place: int) -> tuple[Any, int]:
        """Return the value at a position, and the position of its end."""
        opening = text[place : place + 1]
        if opening not in ("[", "{") or self._depth == DEEPEST:
            return _scan(text, place)
        if (found := self._in_a_piece(place)) is not None:
            return found
        self._depth += 1
        if opening == "{":
            found = JSONObject((text, place + 1), True, self._value, None, None)
        else:
            found = self._array(place + 1)
        self._depth -= 1
        return found

    def _in_a_piece(self, place: int) -> tuple[Any, int] | None:
        """Return a list or object that ends within one piece; None if it is longer or invalid."""
        for base in {self._base: None, place: None}:
            if not base <= place < base + len(self._piece) and base != place:
                continue
            if base != self._base or not self._piece:
                self._piece, self._base = self._text[base : base + PIECE_CHARACTERS], base
            try:
                value, end = _scan(self._piece, place - base)
            except _NOT_WHOLE:
                continue
            return value, base + end
        return None

    def _array(self, place: int) -> tuple[list[Any], int]:
        """Return the elements of a list from a position on, and the position of its end.

        Elements are parsed many at a time while possible, and the rest one by one.
        """
        values: list[Any] = []
        while (found := self._elements(place)) is not None:
            some, comma = found
            values += some
            place = comma + 1
        if values:
            self._refuse_end_after(place - 1)
        rest, end = JSONArray((self._text, place), self._value)
        values += rest
        return values, end

    def _elements(self, place: int) -> tuple[list[Any], int] | None:
        """Return several elements of a list from a position on, and the position of the comma after them.

        A text that parses as a list once it is put in brackets, and is followed by a comma, holds elements of this
        list. Returns None if there is no such text within one piece.
        """
        stop = place + PIECE_CHARACTERS
        comma = self._text.rfind("},", place, stop) + 1 or self._text.rfind(",", place, stop)
        piece = f"[{self._text[place:comma]}]" if comma > place else "[]"
        try:
            values, end = _scan(piece, 0)
        except _NOT_WHOLE:
            return None
        return (values, comma) if values and end == len(piece) else None

    def _refuse_end_after(self, comma: int) -> None:
        """Refuse a list that ends with a comma, with the interpreter's own error."""
        end = _after_space(self._text, comma + 1) + 1
        if self._text[end - 1 : end] == "]":
            try:
                json.loads(f"[0{self._text[comma:end]}")
            except JSONDecodeError as error:
                raise JSONDecodeError(error.msg, self._text, comma - 2 + error.pos) from None


def _after_space(text: str, place: int) -> int:
    end: int = WHITESPACE.match(text, place).end()
    return end
