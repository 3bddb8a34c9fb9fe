"""Listing: the entries of a list of the server, read page by page as they are needed."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any, ClassVar, Protocol, Self, TypeVar, overload

from .._runtime.packages import package_for

_INTEGERS = {"epoch", "step", "policy.max_checkpoints", "policy.max_best_checkpoints"}
_INTEGERS |= {"policy.keep_every_epochs", "policy.keep_every_steps"}
"""Columns of integers that may be missing, which pandas would turn into floats."""


class Entry(Protocol):
    """An entry that can be a row of a table."""

    COLUMNS: ClassVar[tuple[str, ...]]

    @classmethod
    def from_json(cls, data: Mapping[str, Any], shown: Callable[[str], str]) -> Self: ...

    def as_row(self) -> dict[str, Any]: ...


T = TypeVar("T", bound=Entry)
Fetch = Callable[[str | None], tuple[list[T], str | None]]
"""Returns the page of a token, and the token of the next page; None is that of the first page, and ends the list."""


class Listing(Sequence[T]):
    """A sequence of facts, which the server gives page by page.

    The first page is read by the call that returns it. Others are read when they are needed, and every entry once:
    iterating, an index and a slice read as far as they go; ``len()``, an index from the end, and ``to_pandas()`` read
    all. Each page has the facts of the moment at which it was read. After an error the next use continues with the page
    that is missing.
    """

    def __init__(self, kind: type[T], fetch: Fetch[T], limit: int | None = None) -> None:
        self._kind, self._fetch, self._limit = kind, fetch, limit
        self._entries: list[T] = []
        self._token: str | None = None
        self._is_complete = False
        self._read_page()

    def __iter__(self) -> Iterator[T]:
        for place in count():
            if not self._has(place):
                return
            yield self._entries[place]

    def __len__(self) -> int:
        return len(self._all())

    def __bool__(self) -> bool:
        return self._has(0)

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> list[T]: ...

    def __getitem__(self, index: int | slice) -> T | list[T]:
        self._read_for(index)
        return self._entries[index]

    def __repr__(self) -> str:
        least = "" if self._is_complete else "at least "
        return f"<Listing of {least}{len(self._entries)} {self._kind.__name__}>"

    def to_pandas(self) -> Any:
        """Return all entries as a ``pandas.DataFrame``, a row each.

        Metadata values are columns of their own, named ``metadata.<key>``; the policy of a directory and its latest
        and best checkpoint are columns such as ``policy.mode`` and ``best.metric``.

        Raises
        ------
        MissingPackage
            Pandas is not installed.
        """
        pandas = package_for("pandas", "to_pandas()")
        rows = [entry.as_row() for entry in self]
        names = dict.fromkeys([*self._kind.COLUMNS, *(name for row in rows for name in row)])

        def column(name: str) -> Any:
            return pandas.Series([row.get(name) for row in rows], dtype="Int64" if name in _INTEGERS else None)

        return pandas.DataFrame({name: column(name) for name in names})

    def _all(self) -> list[T]:
        while not self._is_complete:
            self._read_page()
        return self._entries

    def _read_for(self, index: int | slice) -> None:
        """Read as far as an index or a slice goes; all if it counts from the end."""
        if not isinstance(index, slice):
            needed = index + 1 if index >= 0 else None
        else:
            counts_from_end = min(index.start or 0, index.stop or 0, index.step or 1) < 0
            needed = None if counts_from_end else index.stop
        if needed is None:
            self._all()
        else:
            self._has(needed - 1)

    def _has(self, place: int) -> bool:
        while not self._is_complete and len(self._entries) <= place:
            self._read_page()
        return place < len(self._entries)

    def _read_page(self) -> None:
        page, self._token = self._fetch(self._token)
        self._entries = (self._entries + page)[: self._limit]
        self._is_complete = self._token is None or len(self._entries) == self._limit
