"""Recognition of files of weights by their first and last bytes, so that other files are not saved as such. Pure."""

import codecs
import re
from collections.abc import Callable

HEAD_BYTES = 512
_ZIP_TAIL_BYTES = 64 * 1024 + 22
"""The tail of a zip file that contains its end record, with the longest comment."""
_ZIP = b"PK\x03\x04"
_POINTER = re.compile(rb"version https?://[^\n]*(?:git-lfs|hawser)[^\n]*\n|/annex/objects/", re.IGNORECASE)
_PAGE = re.compile(rb"[\xef\xbb\xbf\s]*<(?:!doctype|!--|html|head|\?xml|error)", re.IGNORECASE)
_TEXT = re.compile(rb"[\t\n\r\f\x20-\x7e\x80-\xff]*")
_BLANK = re.compile(rb"[\s{\[<]")
_LONGEST_WORD = 64
_PICKLE_IN_TEXT = b"L119547037146038801333356L"
"""The beginning of a torch file in pickle protocol 0."""

_HDF5 = b"\x89HDF\r\n\x1a\n"
_SIGNATURES = {".gguf": b"GGUF", ".keras": _ZIP, ".h5": _HDF5}
_LEGACY_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""The beginning of a torch file of versions before 1.6: its magic number in pickle protocol 2."""
_OF_KERAS = (b"keras_version", b"layer_names", b"model_weights")
_KERAS_HEAD_BYTES = 64 * 1024

ReadAt = Callable[[int, int], bytes]


def fault(read_at: ReadAt, size_bytes: int, name: str = "") -> str | None:
    """Return the reason why a file is not a file of weights, to follow its name; None if it looks like one."""
    head = read_at(0, HEAD_BYTES)
    for suffix, begins in _SIGNATURES.items():
        if name.lower().endswith(suffix) and not head.startswith(begins):
            return fault_of_text(head) or f"it does not begin as a {suffix} file does"
    if head.startswith(_ZIP):
        start = max(0, size_bytes - _ZIP_TAIL_BYTES)
        is_whole = b"PK\x05\x06" in read_at(start, size_bytes - start)
        return None if is_whole else "it is cut short: the end of its zip file is missing"
    if head[8:9] == b"{" and (length := int.from_bytes(head[:8], "little")) < 2**40:
        return None if length + 8 <= size_bytes else "it is cut short: the header of its tensors ends beyond the file"
    if not head.strip(b"\x00"):
        return "it holds nothing but zeros"
    return fault_of_text(head)  # any other bytes may be a format of their own


def is_certain(read_at: ReadAt, name: str) -> bool:
    """Tell if the content of a file, whose suffix other files have too, is that of weights.

    That is a torch file called ``.bin``, or an HDF5 file of Keras called ``.h5`` or ``.hdf5``.
    """
    head = read_at(0, HEAD_BYTES)
    if name.lower().endswith(".bin"):
        return (head.startswith(_ZIP) and b"/data.pkl" in head) or head.startswith(_LEGACY_TORCH)
    if name.lower().endswith((".h5", ".hdf5")):
        return head.startswith(_HDF5) and any(word in read_at(0, _KERAS_HEAD_BYTES) for word in _OF_KERAS)
    return False


def fault_of_text(head: bytes) -> str | None:
    """Return the reason why the first bytes are text in place of weights; None if they are not text."""
    if _POINTER.match(head):
        return "it is a pointer of git-lfs or git-annex, and not the file: fetch that, with `git lfs pull`"
    if _PAGE.match(head):
        return "it is a web page, and no file of weights"
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)  # incremental, as the last character may be cut
    except UnicodeDecodeError:
        return None
    is_text = _TEXT.fullmatch(head) is not None and (len(head) < _LONGEST_WORD or _BLANK.search(head) is not None)
    return "it is text, and no file of weights" if is_text and head and not head.startswith(_PICKLE_IN_TEXT) else None
