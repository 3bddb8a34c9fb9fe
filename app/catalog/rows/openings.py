"""Rows of openings: which root a catalog belongs to, and at which of its openings it was last in use.

The table is made where it is missing, beside the migrations: without its rows a catalog is only compared more closely.
"""

from sqlalchemy import Connection, delete, insert, select

from app.catalog.tables import schema
from app.core.models import Mark

_table = schema.openings


def make(connection: Connection) -> None:
    """Make the table where it is missing."""
    _table.create(connection, checkfirst=True)


def marks(connection: Connection) -> list[Mark]:
    """The marks of the last opening and of the one before."""
    return [Mark(root, opening) for root, opening in connection.execute(select(_table.c.root, _table.c.opening))]


def put(connection: Connection, mark: Mark, before: Mark | None) -> None:
    """Keep these two alone."""
    connection.execute(delete(_table))
    kept = {one.opening: one for one in (mark, before) if one is not None}
    connection.execute(insert(_table), [{"root": one.root, "opening": one.opening} for one in kept.values()])
