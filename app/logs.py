"""The log: each line says for which request it was written, and no line holds a secret."""

import logging
import re
from collections.abc import Iterable

from app import actor

_SECRETS = re.compile(r"hfst_[0-9A-Za-z]+|hfsl_[0-9A-Za-z_.=-]+")


_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}
"""What would let a path in the log move the cursor of whoever reads it."""


class Formatter(logging.Formatter):
    """Lines with the id of the request, with tokens and links blotted out, and without control characters.

    Parameters
    ----------
    secrets : iterable of str
        Further texts that no line may hold.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        super().__init__("%(levelname)s: %(message)s")
        self._secrets = [secret for secret in secrets if secret]

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record).translate(_CONTROLS)
        if request_id := actor.current().request_id:
            begun, _, rest = text.partition(": ")
            text = f"{begun}: [{request_id}] {rest}"
        return self._without_secrets(text)

    def _without_secrets(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return _SECRETS.sub(lambda found: f"{found[0][:5]}***", text)


def configure(secrets: Iterable[str] = ()) -> None:
    """Log to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(Formatter(secrets))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
