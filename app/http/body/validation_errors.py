"""Validation errors as messages for clients: a place and a problem, without internal names. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

MOST = 20
"""The most errors that a response lists."""
LONGEST_NAME = 200
"""The most characters of a name that an error repeats."""

_WORDS = {
    "missing": "is missing",
    "extra_forbidden": "is not a known field",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing_size": "is too large a number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be finite",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be text",
    "string_unicode": "is not Unicode text",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "dataclass_type": "must be an object",
    "dataclass_exact_type": "must be an object",
    "json_type": "must be JSON",
    "path_type": "must be a path",
    "none_required": "must be null",
    "recursion_loop": "is nested within itself",
}
_WITH_CONTEXT = {
    "literal_error": "must be {expected}",
    "greater_than_equal": "must be at least {ge}",
    "greater_than": "must be more than {gt}",
    "less_than_equal": "must be at most {le}",
    "less_than": "must be less than {lt}",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "string_pattern_mismatch": "is not of the form {pattern}",
    "too_short": "must have at least {min_length} entries",
    "too_long": "must have at most {max_length} entries",
    "value_error": "{error}",
    "assertion_error": "{error}",
    "json_invalid": "is not JSON: {error}",
}


def faults(errors: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return the place and message of each error. Alternatives at one place are merged."""
    found: dict[str, list[str]] = {}
    for error in errors:
        messages = found.setdefault(place(error["loc"]), [])
        if (message := describe(error)) not in messages:
            messages.append(message)
        if len(found) > MOST:
            break
    return [{"at": at, "message": " or ".join(messages)} for at, messages in list(found.items())[:MOST]]


def describe(error: Mapping[str, Any]) -> str:
    """Describe an error, as a predicate of which the place is the subject. The input is not repeated."""
    kind, context = error["type"], error.get("ctx") or {}
    if (pattern := _WITH_CONTEXT.get(kind)) is not None and context:
        return pattern.format_map({name: str(value) for name, value in context.items()})
    return _WORDS.get(kind, "is not valid")


def place(location: Iterable[str | int]) -> str:
    """Return the place of an error as a path of names and indices, without those of validators and alternatives.

    Long names are cut, as a key of the input may be as long as the body.
    """
    parts = [text if len(text := str(part)) <= LONGEST_NAME else f"{text[:LONGEST_NAME]}…" for part in location]
    return ".".join(part for part in parts if not any(mark in part for mark in "[(")) or "body"
