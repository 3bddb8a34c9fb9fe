"""Validation errors in words of ours: what was wrong where, without names from inside the program. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

MOST = 20
"""The most faults that are named."""
LONGEST_NAME = 200
"""The most characters of a name that a fault repeats."""

_WORDS = {
    "missing": "is missing",
    "extra_forbidden": "is not known here",
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
    """The place and the message of each fault. Alternatives at one place are one fault."""
    found: dict[str, list[str]] = {}
    for error in errors:
        messages = found.setdefault(place(error["loc"]), [])
        if (message := said(error)) not in messages:
            messages.append(message)
        if len(found) > MOST:
            break
    return [{"at": at, "message": " or ".join(messages)} for at, messages in list(found.items())[:MOST]]


def said(error: Mapping[str, Any]) -> str:
    """The fault, as the end of a sentence that the place begins. The input is not repeated."""
    kind, context = error["type"], error.get("ctx") or {}
    if (pattern := _WITH_CONTEXT.get(kind)) is not None and context:
        return pattern.format_map({name: str(value) for name, value in context.items()})
    return _WORDS.get(kind, "is not valid")


def place(location: Iterable[str | int]) -> str:
    """The place of a fault: names and numbers of the input, without those of validators and alternatives among them.

    Long names are cut: a key of the input may be as long as a body.
    """
    parts = [text if len(text := str(part)) <= LONGEST_NAME else f"{text[:LONGEST_NAME]}…" for part in location]
    return ".".join(part for part in parts if not any(mark in part for mark in "[(")) or "body"
