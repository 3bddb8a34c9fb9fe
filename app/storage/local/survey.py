"""A survey of the records below a root, each read and checked, and an inventory of everything that lies there."""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from stat import S_ISDIR, S_ISREG

from app.core import names as naming
from app.core.errors import Refusal
from app.core.models import Manifest
from app.storage import manifest as manifests
from app.storage.local import layout
from app.storage.local.disk.descriptors import Parts
from app.storage.local.disk.files import version
from app.storage.local.disk.tree import Tree
from app.storage.ports import InventoryEntry, SurveyedRecord

MANIFEST_MAX_BYTES = 256 * 1024 * 1024


def survey(tree: Tree) -> Iterator[SurveyedRecord]:
    """Yield every directory record and every manifest below the root; a damaged one as a fault in words."""
    for parts in _directories(tree, ()):
        if isinstance(parts, SurveyedRecord):
            yield parts
            continue
        where = "/".join(parts)
        try:
            naming.directory_name(where)
        except Refusal as refusal:
            yield SurveyedRecord(where, fault=refusal.detail)
            continue
        for name in tree.names((*parts, layout.OWN)):
            if name.endswith(".json") and not name.startswith("."):
                yield _found(tree, parts, name)


def found_at(tree: Tree, directory: str, name: str) -> SurveyedRecord:
    """Read one record of a directory as a survey does, by its name without the suffix."""
    try:
        naming.directory_name(directory)
    except Refusal as refusal:
        return SurveyedRecord(directory, fault=refusal.detail)
    return _found(tree, layout.parts(directory), f"{name}.json")


def _directories(tree: Tree, parts: Parts) -> Iterator[Parts | SurveyedRecord]:
    try:
        names = tree.folders(parts)
    except (OSError, Refusal) as error:
        yield SurveyedRecord("/".join(parts), fault=str(error))
        return
    if parts and layout.OWN in names:
        yield parts
    for name in names:
        if name != layout.OWN:
            yield from _directories(tree, (*parts, name))


def _found(tree: Tree, parts: Parts, name: str) -> SurveyedRecord:
    path = (*parts, layout.OWN, name)
    where = "/".join(path)
    try:
        with os.fdopen(tree.open(path, os.O_RDONLY), "rb") as file:
            if os.fstat(file.fileno()).st_size > MANIFEST_MAX_BYTES:
                return SurveyedRecord(where, fault="it is too large to be a manifest")
            data = file.read()
        warning = None if manifests.is_as_written(data) else "something has changed it since it was written"
        if path == layout.of_directory("/".join(parts)):
            return SurveyedRecord(
                where, directory=replace(manifests.load_directory(data), name="/".join(parts)), warning=warning
            )
        manifest = manifests.load(data)
    except (manifests.Unreadable, Refusal, OSError) as error:
        return SurveyedRecord(where, fault=str(error))
    fault = _contradiction(tree, path, manifest)
    return SurveyedRecord(where, fault=fault) if fault else SurveyedRecord(where, manifest=manifest, warning=warning)


def _contradiction(tree: Tree, path: Parts, manifest: Manifest) -> str | None:
    """Return the contradiction between a manifest and its place or its files, in words; None if there is none."""
    checkpoint = manifest.checkpoint
    if path != layout.of_manifest(checkpoint.directory, checkpoint.name):
        return f"it speaks of {checkpoint.directory}/{checkpoint.name}"
    for file in checkpoint.files:
        try:
            found = tree.stat(layout.parts(checkpoint.stored_at(file)))
        except Refusal as refusal:
            return refusal.detail
        if found is None or found.st_size != file.size_bytes:
            state = "missing" if found is None else f"{found.st_size} bytes long instead of {file.size_bytes}"
            return f"{checkpoint.stored_at(file)} is {state}"
    return None


def inventory(tree: Tree) -> Iterator[InventoryEntry]:
    """Yield everything below the root, without the root's own folder and without following links.

    A folder that cannot be listed comes a second time, with the reason.
    """
    return _below(tree, ())


def _below(tree: Tree, parts: Parts) -> Iterator[InventoryEntry]:
    try:
        items = _items(tree, parts)
    except FileNotFoundError:  # a running server moves files
        return
    except (OSError, Refusal) as error:
        yield InventoryEntry(
            "/".join(parts), is_folder=True, size_bytes=0, version="", is_plain=False, hidden=str(error)
        )
        return
    yield from items
    for item in items:
        if item.is_folder:
            yield from _below(tree, layout.parts(item.key))


def _items(tree: Tree, parts: Parts) -> list[InventoryEntry]:
    found = []
    with tree.folder(parts) as folder, os.scandir(folder) as entries:
        for entry in entries:
            if parts or entry.name != layout.OWN:
                with suppress(FileNotFoundError):
                    found.append(_item("/".join((*parts, entry.name)), entry.stat(follow_symlinks=False)))
    return found


def _item(path: str, found: os.stat_result) -> InventoryEntry:
    mode = found.st_mode
    return InventoryEntry(path, S_ISDIR(mode), found.st_size, version(found), S_ISREG(mode))
