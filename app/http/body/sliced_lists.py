"""Long lists in request bodies: validated and freed a slice at a time, so that other threads can run in between."""

from typing import Any

from pydantic import ValidationError, ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import InitErrorDetails, PydanticKnownError

from app.http.body import validation_errors

SLICE = 1000
"""The number of elements validated at once; about one millisecond."""


def sliced(most: int) -> WrapValidator:
    """Return a validator for lists of at most ``most`` elements that runs pydantic's own validation in slices.

    Validation stops once there are more errors than a response lists.
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


def free_in_slices(value: Any) -> None:
    """Free a value that is no longer used. Long lists are freed in slices, as freeing a million objects takes long."""
    if isinstance(value, dict):
        for each in value.values():
            free_in_slices(each)
    elif isinstance(value, list) and len(value) <= SLICE:
        for each in value:
            free_in_slices(each)
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
    """Convert an error's location from a slice to the whole list."""
    place, *rest = fault["loc"]
    moved = InitErrorDetails(type=fault["type"], loc=(start + place, *rest), input=fault["input"])
    return moved | {"ctx": fault["ctx"]} if "ctx" in fault else moved
