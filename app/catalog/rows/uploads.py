"""Rows of uploads, and of the saves that became checkpoints."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import Connection, Select, bindparam, delete, func, insert, select, update

from app.catalog.rows.directories import within
from app.catalog.tables import schema
from app.catalog.tables.times import to_text, to_time
from app.core.errors import DiskFailed
from app.core.models import Upload

logger = logging.getLogger("holdfast")

_table = schema.uploads
_saves = schema.saves
_IN_FULL = select(_table.c.id, _table.c.body, _table.c.expires_at)
_BY_ID = _IN_FULL.where(_table.c.id == bindparam("upload"))
_OF_SAVE = _IN_FULL.where(_table.c.directory == bindparam("directory"), _table.c.save_id == bindparam("save"))
_IS_OPEN = select(_table.c.id).where(_table.c.id == bindparam("upload"))
_LAST_POSITION = select(func.max(_table.c.saved_after)).where(_table.c.directory == bindparam("directory"))
_RESULT = select(_saves.c.upload_id, _saves.c.checkpoint_id, _saves.c.digest)
_RESULT_OF_SAVE = _RESULT.where(_saves.c.directory == bindparam("directory"), _saves.c.save_id == bindparam("save"))
_RESULT_OF_UPLOAD = _RESULT.where(_saves.c.upload_id == bindparam("upload"))
_UPLOAD = TypeAdapter(Upload)
_LARGE_BODY = 256 * 1024
"""Uploads whose JSON has at least this many characters are not parsed again by each step of their save."""


@dataclass(frozen=True, slots=True)
class Saved:
    """A committed save: its upload, its checkpoint, and the digest of the content at that time."""

    upload_id: str
    checkpoint_id: str
    digest: str


class _Large:
    """A cache of the last large upload that was written or read. The JSON is the key, so that it is never stale."""

    def __init__(self) -> None:
        self._last: tuple[str, Upload] | None = None

    def remember(self, body: str, upload: Upload) -> None:
        """Cache an upload, if it is large."""
        if len(body) >= _LARGE_BODY:
            self._last = body, upload

    def forget(self) -> None:
        """Empty the cache."""
        self._last = None

    def parsed(self, body: str) -> Upload:
        """Return the upload in this JSON."""
        last = self._last  # another thread may replace it
        if last is not None and last[0] == body:
            return last[1]
        upload = _UPLOAD.validate_json(body)
        self.remember(body, upload)
        return upload


_large = _Large()
"""A cache of this process: other servers may write the same rows."""


class UploadRows:
    """Uploads and saves within one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, upload_id: str) -> Upload | None:
        """Return the upload of this id.

        Raises
        ------
        DiskFailed
            Its row is corrupt.
        """
        return self._one(_BY_ID, upload=upload_id)

    def is_open(self, upload_id: str) -> bool:
        """Tell if an upload exists that is neither committed nor aborted."""
        return self._connection.execute(_IS_OPEN, {"upload": upload_id}).first() is not None

    def of_save(self, directory: str, save_id: str) -> Upload | None:
        """Return the open upload of a save.

        Raises
        ------
        DiskFailed
            Its row is corrupt.
        """
        return self._one(_OF_SAVE, directory=directory, save=save_id)

    def add(self, upload: Upload) -> None:
        """Add an upload."""
        body = _UPLOAD.dump_json(upload).decode()
        _large.remember(body, upload)
        self._connection.execute(
            insert(_table).values(
                id=upload.id,
                directory=upload.directory,
                name=upload.name,
                save_id=upload.save_id,
                expires_at=to_text(upload.expires_at),
                body=body,
                token_id=upload.token_id,
                saved_after=upload.saved_after,
            )
        )

    def change(self, upload: Upload) -> None:
        """Store what the client has declared since the upload began: files, an earlier place, another precondition."""
        body = _UPLOAD.dump_json(upload).decode()
        _large.remember(body, upload)
        values = {"body": body, "saved_after": upload.saved_after}
        self._connection.execute(update(_table).where(_table.c.id == upload.id).values(values))

    def renew(self, upload_id: str, expires_at: datetime) -> None:
        """Renew the lease of an upload."""
        self._connection.execute(update(_table).where(_table.c.id == upload_id).values(expires_at=to_text(expires_at)))

    def remove(self, upload_id: str) -> None:
        """Delete an upload."""
        self._connection.execute(delete(_table).where(_table.c.id == upload_id))
        _large.forget()

    def forget_except(self, ids: Iterable[str]) -> None:
        """Delete the uploads of all other ids."""
        for upload_id in self.ids() - set(ids):
            self.remove(upload_id)

    def expired(self, now: datetime) -> Sequence[str]:
        """Return the ids of the uploads whose lease has ended."""
        return self._connection.execute(select(_table.c.id).where(_table.c.expires_at < to_text(now))).scalars().all()

    def unresumable(self) -> Sequence[Upload]:
        """Return the uploads that cannot be resumed, as the size of a file is not declared. Skips corrupt rows."""
        query = _IN_FULL.where(_table.c.body.contains('"size_bytes":null'))  # or that of a tensor
        ids = self._connection.execute(query.with_only_columns(_table.c.id)).scalars().all()
        found = []
        for upload_id in ids:
            with suppress(DiskFailed):
                found.append(self.get(upload_id))
        return [upload for upload in found if upload is not None and not upload.is_resumable]

    def leases(self, prefix: str, limit: int) -> Sequence[tuple[str, datetime]]:
        """Return ids and ends of leases of the uploads within a prefix; the lease that ends last comes first."""
        query = select(_table.c.id, _table.c.expires_at).where(within(_table.c.directory, prefix))
        rows = self._connection.execute(query.order_by(_table.c.expires_at.desc(), _table.c.id).limit(limit))
        return [(upload_id, to_time(expires_at)) for upload_id, expires_at in rows]

    def page(self, prefix: str, directory: str | None, after: str, limit: int) -> Sequence[tuple[str, datetime]]:
        """Return ids and ends of leases of uploads within a prefix, or of one directory, by id from one on."""
        place = within(_table.c.directory, prefix) if directory is None else _table.c.directory == directory
        query = select(_table.c.id, _table.c.expires_at).where(_table.c.id > after, place)
        rows = self._connection.execute(query.order_by(_table.c.id).limit(limit))
        return [(upload_id, to_time(expires_at)) for upload_id, expires_at in rows]

    def ids(self) -> set[str]:
        """Return the ids of all uploads."""
        return set(self._connection.execute(select(_table.c.id)).scalars())

    def count(self, directory: str | None = None) -> int:
        """Return the number of open uploads, of one directory or of all."""
        query = select(func.count()).select_from(_table)
        if directory is not None:
            query = query.where(_table.c.directory == directory)
        return self._connection.execute(query).scalar_one()

    def count_within(self, prefix: str) -> int:
        """Return the number of open uploads to directories within a prefix."""
        return self._connection.execute(select(func.count()).where(within(_table.c.directory, prefix))).scalar_one()

    def count_of_token(self, token_id: str) -> int:
        """Return the number of open uploads of a token."""
        return self._connection.execute(select(func.count()).where(_table.c.token_id == token_id)).scalar_one()

    def last_position(self, directory: str) -> int | None:
        """Return the last position that an open upload of a directory has; None if none has one."""
        return self._connection.execute(_LAST_POSITION, {"directory": directory}).scalar()

    def directory_of(self, upload_id: str) -> str | None:
        """Return the directory of an open or committed upload; None if the catalog does not know the upload."""
        saves = _saves.c
        known = select(_table.c.directory).where(_table.c.id == upload_id)
        done = select(saves.directory).where(saves.upload_id == upload_id)
        return self._connection.execute(known).scalar() or self._connection.execute(done).scalar()

    def saved(self, directory: str, save_id: str) -> Saved | None:
        """Return the result of a save, if it was committed."""
        return self._saved(_RESULT_OF_SAVE, directory=directory, save=save_id)

    def committed(self, upload_id: str) -> Saved | None:
        """Return the result of an upload, if it was committed."""
        return self._saved(_RESULT_OF_UPLOAD, upload=upload_id)

    def committed_of(self, upload_ids: Iterable[str]) -> set[str]:
        """Return those of the uploads that were committed."""
        query = select(_saves.c.upload_id).where(_saves.c.upload_id.in_(list(upload_ids)))
        return set(self._connection.execute(query).scalars())

    def saves(self) -> set[tuple[str, str]]:
        """Return the directory and the id of every save."""
        rows = self._connection.execute(select(_saves.c.directory, _saves.c.save_id))
        return {(directory, save_id) for directory, save_id in rows}

    def add_save(self, directory: str, save_id: str, saved: Saved) -> None:
        """Store the result of a save."""
        self.add_saves({(directory, save_id): saved})

    def add_saves(self, saves: Mapping[tuple[str, str], Saved]) -> None:
        """Store the results of saves, by directory and id."""
        if saves:
            rows = [{"directory": where, "save_id": save_id, **asdict(it)} for (where, save_id), it in saves.items()]
            self._connection.execute(insert(_saves), rows)

    def supersede(self, directory: str, save_id: str, at: datetime) -> None:
        """Record that a later save of the same content was committed."""
        of_save = (_saves.c.directory == directory, _saves.c.save_id == save_id)
        self._connection.execute(update(_saves).where(*of_save).values(superseded_at=to_text(at)))

    def _saved(self, query: Select[tuple[str, str, str]], **values: str) -> Saved | None:
        row = self._connection.execute(query, values).one_or_none()
        return Saved(row.upload_id, row.checkpoint_id, row.digest) if row is not None else None

    def _one(self, query: Select[Any], **values: str) -> Upload | None:
        row = self._connection.execute(query, values).one_or_none()
        if row is None:
            return None
        try:
            return replace(_large.parsed(row.body), expires_at=to_time(row.expires_at))
        except (ValueError, TypeError) as error:
            logger.error("the catalog's row of the upload %s cannot be read", row.id)
            raise DiskFailed(
                f"The catalog's record of the upload {row.id} cannot be read. Save again with another save_id."
            ) from error
