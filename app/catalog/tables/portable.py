"""Types, indexes and sums that are declared once and come out right on SQLite and on PostgreSQL.

On SQLite they are what the tables have always had: an INTEGER holds 64 bits there, text sorts by its bytes, and no
existing table is rewritten. On PostgreSQL an INTEGER holds 32 bits, text sorts by the collation of the database, and
the sum of BIGINTs is NUMERIC.
"""

from typing import Any

from sqlalchemy import BigInteger, Integer, LargeBinary, String, Text, cast, func, text
from sqlalchemy.sql import ColumnElement
from sqlalchemy.types import TypeDecorator

Int64 = BigInteger().with_variant(Integer(), "sqlite")
"""Sizes, counters, epochs, times in ns, and ids that the database gives: SQLite numbers rows in INTEGER alone."""

Name = String().with_variant(String(collation="C"), "postgresql")
"""Text that is compared or sorted: names, ids, paths, keys, digests."""

Time = Name
"""A time as `tables.times` writes it, whose text sorts as the times do."""


class _Utf8(TypeDecorator[str]):
    """Text in a column of bytes."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Any) -> bytes | None:
        return value.encode() if value is not None else None

    def process_result_value(self, value: bytes | None, dialect: Any) -> str | None:
        return bytes(value).decode() if value is not None else None


Document = Text().with_variant(_Utf8(), "postgresql")
"""JSON of megabytes, which is only read and written whole: PostgreSQL takes 15 times as long to compress it as text.

Shorter JSON is `Text`: JSONB would reorder keys, and refuse the NUL characters that metadata may hold.
"""


def partial_index(condition: str) -> dict[str, Any]:
    """Return the arguments of an `Index` over the rows that meet a condition."""
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}


def total(values: ColumnElement[Any]) -> ColumnElement[int]:
    """Return the sum of integers as an integer on every database; 0 for no rows."""
    return cast(func.coalesce(func.sum(values), 0), Int64)
