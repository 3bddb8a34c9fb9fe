"""The column of a file's version: a time in ns for the local store, which the catalog keeps as an integer."""

from typing import Any

from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

from app.catalog.tables.portable import Int64


class FileVersion(TypeDecorator[str]):
    """A version as an integer column. A store whose versions are no decimal numbers needs a text column first."""

    impl = Int64
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> int | None:
        return None if value is None else int(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        return str(value) if type(value) is int else value  # SQLite keeps any value, and `mapping` refuses the others
