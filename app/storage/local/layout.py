"""Where each thing lies below the root. Pure: names only."""

from app.core.models import Checkpoint, Upload
from app.storage.local.tree import Parts

OWN = ".holdfast"
INCOMING: Parts = (OWN, "incoming")
TRASH: Parts = (OWN, "trash")
ABOUT: Parts = (OWN, "about.txt")
BALLAST: Parts = (OWN, "ballast")
PROTECTED: Parts = (OWN, "protected")
REVOKED: Parts = (OWN, "revoked")
FORMAT: Parts = (OWN, "format.json")
OPENED: Parts = (OWN, "opened")
OF_ROOTS_ALONE = {"catalog.db", *(kept[-1] for kept in (INCOMING, TRASH, PROTECTED, REVOKED, OPENED))}
DEPTH_OF_FILES = len(INCOMING) + 2
"""The number of folders on the way to an upload's files, which are made when it begins."""
SEAL = "manifest.json"
REMOVED = "removed.json"


def parts(path: str) -> Parts:
    """The components of a name with slashes."""
    return tuple(path.split("/"))


def of_copy(name: str) -> Parts:
    """What is copied from elsewhere, before it is whole."""
    return (*INCOMING, "copying", name)


def of_checkpoint(checkpoint: Checkpoint) -> Parts:
    """The file of a checkpoint, or its folder of files."""
    return (*parts(checkpoint.directory), checkpoint.name)


def of_manifest(directory: str, name: str) -> Parts:
    """The manifest of whatever has this name."""
    return (*parts(directory), OWN, f"{name}.json")


def of_directory(directory: str) -> Parts:
    """A directory's own record."""
    return (*parts(directory), OWN, "directory.json")


def of_upload(upload: Upload, path: str) -> Parts:
    """A file of an upload, as it will lie when it is published."""
    inner = parts(path) if upload.is_folder else ()
    return (*INCOMING, upload.id, "files", upload.name, *inner)


def of_files(upload_id: str) -> Parts:
    """The folder of an upload's files."""
    return (*INCOMING, upload_id, "files")


def of_seal(upload_id: str) -> Parts:
    """The seal of an upload."""
    return (*INCOMING, upload_id, SEAL)
