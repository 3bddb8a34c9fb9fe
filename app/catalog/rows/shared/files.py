"""Rows of the files of shared uploads."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pydantic import TypeAdapter
from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from app.catalog.tables import schema
from app.catalog.tables.portable import total
from app.core.errors import DiskFailed
from app.core.models import SharedFile, UploadFile

_table = schema.shared_files
_FILE = TypeAdapter(UploadFile)
_OF_UPLOAD = (
    select(_table.c.path, _table.c.place, _table.c.writer, _table.c.attempt, _table.c.body)
    .where(_table.c.upload_id == bindparam("upload"))
    .order_by(_table.c.place)
)
_REMOVE = delete(_table).where(_table.c.upload_id == bindparam("upload"), _table.c.path == bindparam("file"))

_DESCRIBE = (
    update(_table)
    .where(_table.c.upload_id == bindparam("upload"), _table.c.path == bindparam("file"))
    .values(body=bindparam("text"))
)


@dataclass(frozen=True, slots=True)
class Declared:
    """The number and the bytes of the files that a writer has declared."""

    files: int = 0
    size_bytes: int = 0


class SharedFileRows:
    """Files of shared uploads within one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def of_upload(self, upload_id: str) -> list[tuple[int, SharedFile]]:
        """Return the files of an upload by their places, each with the attempt that declared it last.

        Raises
        ------
        DiskFailed
            A row is corrupt.
        """
        found = self._connection.execute(_OF_UPLOAD, {"upload": upload_id})
        try:
            return [(row.attempt, SharedFile(row.writer, row.place, _FILE.validate_json(row.body))) for row in found]
        except ValueError as error:
            raise DiskFailed(
                f"The catalog's record of the files of upload {upload_id} cannot be read. Abort it, and save again."
            ) from error

    def put(self, upload_id: str, attempt: int, files: Iterable[SharedFile]) -> None:
        """Store files in place of those that have their paths."""
        rows = [
            {
                "upload_id": upload_id,
                "path": shared.file.path,
                "place": shared.place,
                "writer": shared.writer,
                "attempt": attempt,
                "size_bytes": shared.file.size_bytes or 0,
                "body": _FILE.dump_json(shared.file).decode(),
            }
            for shared in files
        ]
        if rows:
            self.remove(upload_id, (row["path"] for row in rows))
            self._connection.execute(insert(_table), rows)

    def set_files(self, upload_id: str, files: Mapping[str, UploadFile]) -> None:
        """Store new descriptions of files, by path."""
        texts = {path: _FILE.dump_json(file).decode() for path, file in files.items()}
        rows = [{"upload": upload_id, "file": path, "text": text} for path, text in texts.items()]
        if rows:
            self._connection.execute(_DESCRIBE, rows)

    def remove(self, upload_id: str, paths: Iterable[object]) -> None:
        """Delete the files of some paths."""
        wanted = [{"upload": upload_id, "file": path} for path in paths]
        if wanted:
            self._connection.execute(_REMOVE, wanted)

    def declared(self, upload_id: str, attempt: int) -> Mapping[str, Declared]:
        """Return what each writer has declared in an attempt."""
        rows = self._connection.execute(
            select(_table.c.writer, func.count(), total(_table.c.size_bytes))
            .where(_table.c.upload_id == upload_id, _table.c.attempt == attempt)
            .group_by(_table.c.writer)
        )
        return {writer: Declared(files, size_bytes) for writer, files, size_bytes in rows}
