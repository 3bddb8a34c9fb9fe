"""The table of error codes, from `app.core.errors`: when each comes, and the advice, is written in the page."""

from collections.abc import Iterator

from app.core.errors import Refusal
from scripts.reference.markdown import code, kept
from scripts.reference.markdown import table as a_table


def table(standing: str) -> str:
    """Return each code with its status, and when it comes and what to do."""
    advice = kept(standing, "code")
    return a_table(
        ("status", "code", "when it comes, and what to do"),
        (
            (str(kind.status), code(kind.code), advice.get(code(kind.code), ""))
            for kind in sorted(refusals(), key=lambda kind: (kind.status, kind.code))
        ),
    )


def refusals() -> Iterator[type[Refusal]]:
    """Yield every class that has a code of its own."""
    waiting = [Refusal]
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        if "code" in vars(kind):
            yield kind
