"""Rows of root marks: the root that a catalog belongs to, and the openings of it at which the catalog was in use."""

from sqlalchemy import Connection, delete, insert, select

from app.catalog.tables import schema
from app.core.models import RootMark

_table = schema.root_marks


def marks(connection: Connection) -> list[RootMark]:
    """Return the marks of the last two openings."""
    return [RootMark(root, opening) for root, opening in connection.execute(select(_table.c.root, _table.c.opening))]


def put(connection: Connection, mark: RootMark, before: RootMark | None) -> None:
    """Replace all marks by these two."""
    connection.execute(delete(_table))
    kept = {each.opening: each for each in (mark, before) if each is not None}
    connection.execute(insert(_table), [{"root": each.root, "opening": each.opening} for each in kept.values()])
