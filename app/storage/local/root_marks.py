"""The root marks as small files: the mark of the last opening, the protection by tokens, and the revoked tokens."""

import json
import re
from contextlib import suppress

from app.core.errors import Refusal
from app.core.models import RootMark
from app.storage.local import layout
from app.storage.local.root import Root

_MARK_MAX_BYTES = 4096
_ID = re.compile(r"[0-9a-f]{32}")


class LocalRootMarks:
    """The root marks port below a local root; see the port for the promise of each method."""

    def __init__(self, root: Root) -> None:
        self.is_new = root.is_new
        self._root = root
        self._tree = root.tree

    def last_opening(self) -> RootMark | None:
        with suppress(OSError, Refusal, ValueError, TypeError, KeyError, RecursionError):
            found = self._tree.stat(layout.OPENED)
            if found is not None and found.st_size <= _MARK_MAX_BYTES:
                said = json.loads(self._tree.read(layout.OPENED))
                if _ID.fullmatch(said["root"]) and _ID.fullmatch(said["opening"]):
                    return RootMark(said["root"], said["opening"])
        return None

    def note_opening(self, opened: RootMark) -> None:
        self._tree.write(layout.OPENED, json.dumps({"root": opened.root, "opening": opened.opening}).encode())

    def upgrade(self) -> None:
        self._root.upgrade()

    @property
    def is_protected(self) -> bool:
        return self._tree.stat(layout.PROTECTED) is not None

    def protect(self) -> None:
        if not self.is_protected:
            self._tree.write(layout.PROTECTED, b"While this file is here, the server needs tokens.\n")

    @property
    def revoked(self) -> frozenset[str]:
        try:
            return frozenset(self._tree.read(layout.REVOKED).decode(errors="replace").split())
        except FileNotFoundError:
            return frozenset()

    def revoke(self, token_id: str) -> None:
        if token_id not in (known := self.revoked):
            self._tree.write(layout.REVOKED, "".join(f"{id_}\n" for id_ in sorted(known | {token_id})).encode())
