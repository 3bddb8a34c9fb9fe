"""The place of each thing below the root. Pure: names only."""

from app.core import names
from app.core.models import Checkpoint, Upload
from app.storage.local.disk.descriptors import Parts

OWN = names.RESERVED
INCOMING: Parts = (OWN, "incoming")
TRASH: Parts = (OWN, "trash")
ABOUT: Parts = (OWN, "about.txt")
RESERVE_FILE: Parts = (OWN, "ballast")
PROTECTED: Parts = (OWN, "protected")
REVOKED: Parts = (OWN, "revoked")
FORMAT: Parts = (OWN, "format.json")
OPENED: Parts = (OWN, "opened")
LOCK: Parts = (OWN, "lock")
PROBE: Parts = (OWN, "probe")
PROBES: tuple[Parts, Parts] = ((OWN, "probe-1"), (OWN, "probe-2"))
OF_ROOTS_ALONE = {"catalog.db", *(kept[-1] for kept in (INCOMING, TRASH, PROTECTED, REVOKED, OPENED))}
"""Names that only the root itself has in its own folder."""
DEPTH_OF_FILES = len(INCOMING) + 2
"""The number of folders on the way to an upload's files, which are made when it begins."""
SEAL = "manifest.json"
REMOVED = "removed.json"


def parts(path: str) -> Parts:
    """Split a name at its slashes."""
    return tuple(path.split("/"))


def of_copy(name: str) -> Parts:
    """Return the place of a copy from outside the root until it is whole."""
    return (*INCOMING, "copying", name)


def of_checkpoint(checkpoint: Checkpoint) -> Parts:
    """Return the place of a checkpoint: a file, or a folder of files."""
    return (*parts(checkpoint.directory), checkpoint.name)


def of_records(directory: str) -> Parts:
    """Return the folder of the records of a directory."""
    return (*parts(directory), OWN)


def of_manifest(directory: str, name: str) -> Parts:
    """Return the place of the manifest of a name."""
    return (*of_records(directory), f"{name}.json")


def of_directory(directory: str) -> Parts:
    """Return the place of a directory's own record."""
    return (*of_records(directory), "directory.json")


def of_upload(upload: Upload, path: str, folder: Parts) -> Parts:
    """Return the place of a file of an upload below its folder, laid out as in the published checkpoint."""
    inner = parts(path) if upload.is_folder else ()
    return (*folder, upload.name, *inner)


def of_files(upload_id: str) -> Parts:
    """Return the folder of an upload's files."""
    return (*INCOMING, upload_id, "files")


def of_seal(upload_id: str) -> Parts:
    """Return the place of the seal of an upload."""
    return (*INCOMING, upload_id, SEAL)


def of_whole(upload_id: str) -> Parts:
    """Return the folder of the files of an upload that was written whole: its seal lies beside them."""
    return (*INCOMING, upload_id)


def of_whole_seal(upload_id: str) -> Parts:
    """Return the place of the seal of an upload that was written whole: a name that no checkpoint has."""
    return (*INCOMING, upload_id, OWN)
