"""What the files below a root say, as far as it can be believed."""

from collections.abc import Iterator

from app import manifest as manifests
from app import naming
from app.domain import Manifest
from app.errors import Refusal
from app.storage import places
from app.storage.base import Found
from app.storage.tree import Parts, Tree

MANIFEST_MAX_BYTES = 256 * 1024 * 1024


def survey(tree: Tree) -> Iterator[Found]:
    """Every directory record and every manifest below the root; what cannot be believed, as a fault in words."""
    for parts in _directories(tree, ()):
        if isinstance(parts, Found):
            yield parts
            continue
        where = "/".join(parts)
        try:
            naming.directory_name(where)
        except Refusal as refusal:
            yield Found(where, fault=refusal.detail)
            continue
        for name in tree.names((*parts, places.OWN)):
            if name.endswith(".json") and not name.startswith("."):
                yield _found(tree, parts, name)


def _directories(tree: Tree, parts: Parts) -> Iterator[Parts | Found]:
    try:
        names = tree.names(parts)
    except (OSError, Refusal) as error:
        yield Found("/".join(parts), fault=str(error))
        return
    for name in names:
        if name == places.OWN or not tree.is_folder((*parts, name)):
            continue
        if tree.is_folder((*parts, name, places.OWN)):
            yield (*parts, name)
        yield from _directories(tree, (*parts, name))


def _found(tree: Tree, parts: Parts, name: str) -> Found:
    path = (*parts, places.OWN, name)
    where = "/".join(path)
    try:
        found = tree.stat(path)
        if found is None or found.st_size > MANIFEST_MAX_BYTES:
            return Found(where, fault="it is gone or too large to be a manifest")
        data = tree.read(path)
        if path == places.of_directory("/".join(parts)):
            return Found(where, directory=manifests.load_directory(data))
        manifest = manifests.load(data)
    except (manifests.Unreadable, Refusal, OSError) as error:
        return Found(where, fault=str(error))
    fault = _contradiction(tree, path, manifest)
    return Found(where, fault=fault) if fault else Found(where, manifest=manifest)


def _contradiction(tree: Tree, path: Parts, manifest: Manifest) -> str | None:
    """How a manifest disagrees with where it lies, or with the files that it speaks of."""
    checkpoint = manifest.checkpoint
    if path != places.of_manifest(checkpoint.directory, checkpoint.name):
        return f"it speaks of {checkpoint.directory}/{checkpoint.name}"
    for file in checkpoint.files:
        try:
            found = tree.stat(places.parts(checkpoint.stored_at(file)))
        except Refusal as refusal:
            return refusal.detail
        if found is None or found.st_size != file.size_bytes:
            state = "missing" if found is None else f"{found.st_size} bytes long instead of {file.size_bytes}"
            return f"{checkpoint.stored_at(file)} is {state}"
    return None
