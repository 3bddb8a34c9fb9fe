"""Long lists in request bodies, validated a slice at a time, so that other threads take their turn meanwhile."""

from typing import Any

from pydantic import ValidationError, ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import InitErrorDetails, PydanticKnownError

from app.http.body import validation_errors

SLICE = 1000
"""The number of elements that are validated at once: about a millisecond's worth."""


def sliced(most: int) -> WrapValidator:
    """A validator of a list of at most so many elements, which does what pydantic does, in slices.

    Of a list with very many faults it gives those of the first slices, which is more than an answer names.
    """

    def validate(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        if not isinstance(value, list) or len(value) <= SLICE:
            return handler(value)
        if len(value) > most:
            raise PydanticKnownError(
                "too_long", {"field_type": "List", "max_length": most, "actual_length": len(value)}
            )
        return _in_slices(value, handler)

    return WrapValidator(validate)


def shed(value: Any) -> None:
    """Free a value that is used no more, its long lists in slices: to free a million objects takes a while, too."""
    if isinstance(value, dict):
        for each in value.values():
            shed(each)
    elif isinstance(value, list) and len(value) <= SLICE:
        for each in value:
            shed(each)
    elif isinstance(value, list):
        while value:
            del value[-SLICE:]


def _in_slices(value: list[Any], handler: ValidatorFunctionWrapHandler) -> list[Any]:
    found: list[Any] = []
    faults: list[InitErrorDetails] = []
    for start in range(0, len(value), SLICE):
        try:
            found += handler(value[start : start + SLICE])
        except ValidationError as error:
            faults += (_moved(fault, start) for fault in error.errors(include_url=False))
            if len({fault["loc"] for fault in faults}) > validation_errors.MOST:
                break
    if faults:
        raise ValidationError.from_exception_data("list", faults)
    return found


def _moved(fault: Any, start: int) -> InitErrorDetails:
    """A fault of a slice, as it is one of the whole list."""
    place, *rest = fault["loc"]
    moved = InitErrorDetails(type=fault["type"], loc=(start + place, *rest), input=fault["input"])
    return moved | {"ctx": fault["ctx"]} if "ctx" in fault else moved
