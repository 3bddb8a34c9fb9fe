"""Idempotency: recognises a repeated save by its ``save_id``, which must stand for the same content."""

from app.catalog import Session
from app.catalog.rows.uploads import Saved
from app.core import digests
from app.core.errors import SaveIdReused
from app.core.models import Checkpoint, Save, Upload
from app.service.state.get_or_refuse import known_checkpoint


def earlier_name(session: Session, save: Save) -> str | None:
    """Find the name under which the same save was begun or committed before."""
    if saved := session.uploads.saved(save.directory, save.save_id):
        return known_checkpoint(session, saved.checkpoint_id).name
    upload = session.uploads.of_save(save.directory, save.save_id)
    return upload.name if upload is not None else None


def repeated(session: Session, save: Save, saved: Saved) -> Checkpoint:
    """Give the checkpoint that this save became earlier.

    Raises
    ------
    SaveIdReused
        It had other content.
    """
    checkpoint = known_checkpoint(session, saved.checkpoint_id)
    declared = {file.path: file.size_bytes for file in save.files if file.size_bytes is not None}
    kept = {file.path: file.size_bytes for file in checkpoint.files}
    if digests.of_save(save) not in {None, saved.digest} or not declared.items() <= kept.items():
        raise SaveIdReused(f"The save_id {save.save_id!r} was used for other content.")
    return checkpoint


def is_same_save(upload: Upload, save: Save) -> bool:
    """Tell if a save is the one that began an upload; it may add digests, but not change them."""
    if (upload.name, len(upload.files)) != (save.name, len(save.files)):
        return False
    return all(begun.agrees_with(file) for begun, file in zip(upload.files, save.files, strict=True))


def may_begin_again(upload: Upload, save: Save) -> bool:
    """Tell if a save that brings all its bytes may take the place of an upload that was begun without their digests."""
    begun = [(file.path, file.size_bytes) for file in upload.files]
    is_alike = (upload.name, begun) == (save.name, [(file.path, file.size_bytes) for file in save.files])
    return is_alike and all(file.chunks is None for file in upload.files)
