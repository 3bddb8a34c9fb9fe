"""Rows of uploads, and which save became which checkpoint."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime

from pydantic import TypeAdapter
from sqlalchemy import Connection, delete, func, insert, select, update
from sqlalchemy.sql import ColumnElement

from app.catalog.rows.directories import within
from app.catalog.tables import schema
from app.catalog.tables.times import to_text, to_time
from app.core.errors import DiskFailed
from app.core.models import Upload

logger = logging.getLogger("holdfast")

_table = schema.uploads
_UPLOAD = TypeAdapter(Upload)
_LARGE_BODY = 256 * 1024
"""Uploads whose JSON has at least so many characters are not parsed anew by each step of their save."""


@dataclass(frozen=True, slots=True)
class Saved:
    """The upload that a save went through, the checkpoint that it became, and the content at that time."""

    upload_id: str
    checkpoint_id: str
    digest: str


class _Large:
    """The last large upload that was written or read, with its JSON. The text is compared: no change is missed."""

    def __init__(self) -> None:
        self._last: tuple[str, Upload] | None = None

    def remember(self, body: str, upload: Upload) -> None:
        """Keep an upload beside the JSON that says it."""
        if len(body) >= _LARGE_BODY:
            self._last = body, upload

    def forget(self) -> None:
        """Free the memory."""
        self._last = None

    def parsed(self, body: str) -> Upload:
        """The upload in this JSON."""
        last = self._last  # another thread may exchange it
        if last is not None and last[0] == body:
            return last[1]
        upload = _UPLOAD.validate_json(body)
        self.remember(body, upload)
        return upload


_large = _Large()


class UploadRows:
    """Uploads and saves within one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, upload_id: str) -> Upload | None:
        """The upload of this id."""
        return self._one(_table.c.id == upload_id)

    def of_save(self, directory: str, save_id: str) -> Upload | None:
        """The upload that this save began."""
        return self._one(_table.c.directory == directory, _table.c.save_id == save_id)

    def add(self, upload: Upload) -> None:
        """Keep a new upload."""
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
                place=upload.saved_after,
            )
        )

    def change(self, upload: Upload) -> None:
        """Keep what an upload has learned of its files."""
        body = _UPLOAD.dump_json(upload).decode()
        _large.remember(body, upload)
        self._connection.execute(update(_table).where(_table.c.id == upload.id).values(body=body))

    def renew(self, upload_id: str, expires_at: datetime) -> None:
        """Let an upload live until then."""
        self._connection.execute(update(_table).where(_table.c.id == upload_id).values(expires_at=to_text(expires_at)))

    def remove(self, upload_id: str) -> None:
        """Forget an upload."""
        self._connection.execute(delete(_table).where(_table.c.id == upload_id))
        _large.forget()

    def forget_but(self, ids: Iterable[str]) -> None:
        """Forget the uploads of all other ids."""
        for upload_id in self.ids() - set(ids):
            self.remove(upload_id)

    def expired(self, now: datetime) -> Sequence[str]:
        """The ids of the uploads whose lease has ended."""
        return self._connection.execute(select(_table.c.id).where(_table.c.expires_at < to_text(now))).scalars().all()

    def leases(self, prefix: str, limit: int) -> Sequence[tuple[str, datetime]]:
        """The ids of uploads to directories within a prefix, and when their leases end; those that end last first."""
        query = select(_table.c.id, _table.c.expires_at).where(within(_table.c.directory, prefix))
        rows = self._connection.execute(query.order_by(_table.c.expires_at.desc(), _table.c.id).limit(limit))
        return [(upload_id, to_time(expires_at)) for upload_id, expires_at in rows]

    def ids(self) -> set[str]:
        """The ids of all uploads."""
        return set(self._connection.execute(select(_table.c.id)).scalars())

    def count(self, directory: str | None = None) -> int:
        """How many uploads are under way, in one directory or in all."""
        query = select(func.count()).select_from(_table)
        if directory is not None:
            query = query.where(_table.c.directory == directory)
        return self._connection.execute(query).scalar_one()

    def count_within(self, prefix: str) -> int:
        """How many uploads to directories within a prefix are under way."""
        return self._connection.execute(select(func.count()).where(within(_table.c.directory, prefix))).scalar_one()

    def count_of_token(self, token_id: str) -> int:
        """How many uploads of a token are under way."""
        return self._connection.execute(select(func.count()).where(_table.c.token_id == token_id)).scalar_one()

    def last_place(self, directory: str) -> int | None:
        """The last place in the order that an open upload of a directory has; None where none has one."""
        query = select(func.max(_table.c.place)).where(_table.c.directory == directory)
        return self._connection.execute(query).scalar()

    def directory_of(self, upload_id: str) -> str | None:
        """The directory that an upload is for, or was; None where nobody knows it."""
        saves = schema.saves.c
        known = select(_table.c.directory).where(_table.c.id == upload_id)
        done = select(saves.directory).where(saves.upload_id == upload_id)
        return self._connection.execute(known).scalar() or self._connection.execute(done).scalar()

    def saved(self, directory: str, save_id: str) -> Saved | None:
        """What this save was committed as."""
        return self._saved(schema.saves.c.directory == directory, schema.saves.c.save_id == save_id)

    def committed(self, upload_id: str) -> Saved | None:
        """What this upload was committed as."""
        return self._saved(schema.saves.c.upload_id == upload_id)

    def committed_of(self, upload_ids: Iterable[str]) -> set[str]:
        """Those of some uploads that were committed."""
        query = select(schema.saves.c.upload_id).where(schema.saves.c.upload_id.in_(list(upload_ids)))
        return set(self._connection.execute(query).scalars())

    def saves(self) -> set[tuple[str, str]]:
        """The directory and the id of every save."""
        rows = self._connection.execute(select(schema.saves.c.directory, schema.saves.c.save_id))
        return {(directory, save_id) for directory, save_id in rows}

    def add_save(self, directory: str, save_id: str, saved: Saved) -> None:
        """Keep what a save was committed as."""
        self.add_saves({(directory, save_id): saved})

    def add_saves(self, saves: Mapping[tuple[str, str], Saved]) -> None:
        """Keep what saves were committed as, by directory and id."""
        if saves:
            rows = [{"directory": where, "save_id": save_id, **asdict(it)} for (where, save_id), it in saves.items()]
            self._connection.execute(insert(schema.saves), rows)

    def _saved(self, *conditions: ColumnElement[bool]) -> Saved | None:
        table = schema.saves
        query = select(table.c.upload_id, table.c.checkpoint_id, table.c.digest).where(*conditions)
        row = self._connection.execute(query).one_or_none()
        return Saved(*row) if row is not None else None

    def _one(self, *conditions: ColumnElement[bool]) -> Upload | None:
        query = select(_table.c.id, _table.c.body, _table.c.expires_at).where(*conditions)
        row = self._connection.execute(query).one_or_none()
        if row is None:
            return None
        try:
            return replace(_large.parsed(row.body), expires_at=to_time(row.expires_at))
        except (ValueError, TypeError) as error:
            logger.error("the catalog's row of the upload %s cannot be read", row.id)
            raise DiskFailed(
                f"What the catalog knows of the upload {row.id} cannot be read. Save again with another save_id."
            ) from error
