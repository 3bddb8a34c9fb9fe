"""Parses JSON in pieces, so that other threads take their turn while a large body is parsed. Pure.

`json.loads` holds the interpreter from the first character to the last. Here no call does so for more than a piece,
whatever the JSON is like, but for a long text and for what is nested deeper than any valid body. Values and errors are
those of `json.loads`.
"""

import json
from collections.abc import Callable
from json.decoder import WHITESPACE, JSONArray, JSONDecodeError, JSONObject  # type: ignore[attr-defined]
from typing import Any

PIECE_CHARACTERS = 64 * 1024
"""The amount that is parsed at once: about a millisecond's worth."""
DEEPEST = 100
"""The depth to which pieces are looked for. No valid body is nested as deep."""
_scan: Callable[[str, int], tuple[Any, int]] = json.JSONDecoder().scan_once  # type: ignore[attr-defined]
_NOT_WHOLE = (StopIteration, ValueError, RecursionError)


def loads(data: bytes) -> Any:
    """Parse JSON as `json.loads` does.

    Raises
    ------
    json.JSONDecodeError
        It is no JSON.
    ValueError
        It is not Unicode text, or has a number of too many digits.
    RecursionError
        It is nested too deep.
    """
    return _Parser(data.decode(json.detect_encoding(data), "surrogatepass")).parse()


class _Parser:
    """One text that is parsed."""

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
        """The value at a place, and where it ends."""
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
        """A list or an object that ends within a piece. One that reaches beyond, or is no JSON, is not found."""
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
        """The elements from a place on, and where the list ends: many at once as long as that is possible."""
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
        """Elements of a list from a place on, and the comma after them.

        What makes a list when brackets are put around it, and is followed by a comma, is elements of this list.
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
        """Refuse a list that ends with a comma, in the interpreter's own words."""
        end = _after_space(self._text, comma + 1) + 1
        if self._text[end - 1 : end] == "]":
            try:
                json.loads(f"[0{self._text[comma:end]}")
            except JSONDecodeError as error:
                raise JSONDecodeError(error.msg, self._text, comma - 2 + error.pos) from None


def _after_space(text: str, place: int) -> int:
    end: int = WHITESPACE.match(text, place).end()
    return end
