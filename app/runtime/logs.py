"""The log: each line has its time and request id, and no line contains a secret."""

import logging
import re
from datetime import UTC, datetime

from app.core.names import escaped
from app.runtime import actor

_SECRETS = re.compile(r"hfst_[0-9A-Za-z]+|hfsl_[0-9A-Za-z_.=-]+")


_hidden: set[str] = set()


class Formatter(logging.Formatter):
    """Formats lines with time and request id, masks secrets, and escapes characters that cannot be shown."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s: %(message)s")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        at = datetime.fromtimestamp(record.created, UTC)
        return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def format(self, record: logging.LogRecord) -> str:
        text = escaped(super().format(record), keep="\n\t")
        if request_id := actor.current().request_id:
            begun, _, rest = text.partition(": ")
            text = f"{begun}: [{request_id}] {rest}"
        return without_secrets(text)


def hide(secret: str | None) -> None:
    """Mask a secret in every line from now on."""
    if secret:
        _hidden.add(secret)


def without_secrets(text: str) -> str:
    """Mask tokens, links and the secrets given to `hide` in a text."""
    for secret in _hidden:
        text = text.replace(secret, "***")
    return _SECRETS.sub(lambda found: f"{found[0][:5]}***", text)


def configure() -> None:
    """Log to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(Formatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
