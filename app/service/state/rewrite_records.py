"""Rewriting of manifests and directory records from rows of the catalog. Best-effort."""

import logging

from app.core.errors import Refusal
from app.core.models import Manifest
from app.service.state.context import Context

logger = logging.getLogger("holdfast")


def rewrite_manifest(context: Context, manifest: Manifest) -> None:
    """Write a manifest with facts that the catalog already holds. On failure it stays stale until the janitor runs."""
    try:
        context.storage.records.write_manifest(manifest)
        with context.catalog.writing() as session:
            session.checkpoints.mark_manifest_written(manifest.checkpoint.id)
    except (OSError, Refusal):
        logger.exception("the manifest of %s stays stale for now", manifest.checkpoint.id)


def rewrite_directory(context: Context, name: str) -> None:
    """Write a directory's record from its row. On failure it stays stale until the janitor runs."""
    with context.catalog.lock(name):
        with context.catalog.reading() as session:
            directory = session.directories.get(name)
        if directory is None:
            return
        try:
            context.storage.records.make_directory(directory)
            context.storage.records.write_directory(directory)
            with context.catalog.writing() as session:
                session.directories.mark_record_stale(name, False)
        except (OSError, Refusal):
            logger.exception("the record of %s stays stale for now", name)
