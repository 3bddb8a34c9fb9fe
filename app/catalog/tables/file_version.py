"""The column of a file's version, which each store writes in its own way and the catalog only keeps."""

from typing import Any

from sqlalchemy import Integer, String
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

_MARK = "v:"
"""Begins a version that is no number: SQLite would turn a text such as ``12e3`` in a column of integers into one."""


class FileVersion(TypeDecorator[str]):
    """A version: text on PostgreSQL; on SQLite an integer if it is one, as it always was for local files."""

    impl = String
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(Integer() if dialect.name == "sqlite" else String(collation="C"))

    def process_bind_param(self, value: str | None, dialect: Dialect) -> Any:
        if value is None or dialect.name != "sqlite":
            return value
        is_number = len(value) <= 19 and value.isascii() and value.isdecimal() and str(int(value)) == value
        return int(value) if is_number and int(value) < 2**63 else _MARK + value

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        if dialect.name != "sqlite":
            return value
        if type(value) is int:
            return str(value)
        return value.removeprefix(_MARK) if isinstance(value, str) and value.startswith(_MARK) else None  # corrupt
