"""File formats by their first bytes: those that can be loaded, and names for the others. Pure."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

HEAD_BYTES = 4096
"""The number of first bytes that determine the format."""

_MAGIC = re.compile(rb"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19|L119547037146038801333356L?\n")
"""The number with which the formats before the zip file begin, as the pickle protocols write it."""
_PICKLE = re.compile(rb"\x80[\x00-\x05]|[(\]}cI][^\x00]*\.$", re.DOTALL)
_MULTIPART = re.compile(rb"--[^\r\n]{1,200}\r?\n(?i:content-)")
_CHUNKED = re.compile(rb"[0-9a-fA-F]{1,16}(;[^\r\n]*)?\r\n")
_ONNX = re.compile(rb"\x08[\x01-\x20](\x12.|\x1a.|:)", re.DOTALL)
_LARGEST_HEADER = 100_000_000
_WHITE = "\t\n\r\f\ufeff"


@dataclass(frozen=True, slots=True)
class Format:
    """A file format in words that follow "it is", with advice for the user."""

    words: str
    advice: str = ""

    @property
    def refusal(self) -> str:
        """The error message for a file of this format."""
        advice = f" {self.advice}" if self.advice else ""
        return (
            f"torch cannot load this checkpoint: it is {self.words}, not a file that torch.save writes.{advice} "
            "download() fetches the file as it is."
        )


ZIP = Format("a zip file")
LEGACY = Format("a torch file in the format before the zip file")
TAR = Format("a tar file")
SAFETENSORS = Format("a safetensors file")
NUMPY = Format("a NumPy array (.npy)")
NUMPY_ARCHIVE = Format("a NumPy archive (.npz)", "numpy.load reads it.")

_ENVELOPE = "Send the file itself as the body, as curl --data-binary @FILE does."
_COMPRESSED = "Save what is in it instead."
_SIGNATURES = (
    (b"\x89HDF\r\n\x1a\n", Format("an HDF5 file (as Keras writes .h5)", "Keras or h5py reads it.")),
    (b"\x93NUMPY", NUMPY),
    (b"GGUF", Format("a GGUF model (llama.cpp)", "The gguf package reads it.")),
    (b"lmgg", Format("a GGML model (llama.cpp)")),
    (b"tjgg", Format("a GGML model (llama.cpp)")),
    (b"\x1f\x8b", Format("compressed with gzip", _COMPRESSED)),
    (b"\x28\xb5\x2f\xfd", Format("compressed with zstd", _COMPRESSED)),
    (b"\xfd7zXZ\x00", Format("compressed with xz", _COMPRESSED)),
    (b"BZh", Format("compressed with bzip2", _COMPRESSED)),
    (b"\x04\x22\x4d\x18", Format("compressed with lz4", _COMPRESSED)),
    (b"7z\xbc\xaf\x27\x1c", Format("a 7z archive", _COMPRESSED)),
    (b"Rar!\x1a\x07", Format("a RAR archive", _COMPRESSED)),
    (b"PK\x05\x06", Format("a zip file that holds nothing")),
    (b"PAR1", Format("a Parquet file")),
    (b"ARROW1", Format("an Arrow file")),
    (b"SQLite format 3\x00", Format("an SQLite database")),
    (b"\x7fELF", Format("a program (ELF)")),
    (b"%PDF", Format("a PDF document")),
    (b"\x89PNG", Format("a PNG image")),
    (b"\xff\xd8\xff", Format("a JPEG image")),
    (b"RIFF", Format("a RIFF file (sound or image)")),
    (
        b"version https://git-lfs.github.com/spec/",
        Format("a git-lfs pointer, which stands for a file that was not fetched", "Run git lfs pull, and save that."),
    ),
)
_PAGE = Format("a web page", "An error or a sign-in page was saved in the place of the file.")
_XML = Format("an XML document", "It may be the error of an object store, saved in the place of the file.")
_UNKNOWN = Format("of no format that is known")
_PLAIN_PICKLE = Format(
    "a pickle that torch.save did not write", "If you trust its writer, pickle.load or joblib.load reads the download."
)


def detect(head: bytes, size_bytes: int) -> Format:
    """Return the format of a file, by its first bytes, at most `HEAD_BYTES` of them, and its size."""
    if not size_bytes:
        return Format("empty")
    if head.startswith(b"PK\x03\x04"):
        name = head[30 : 30 + int.from_bytes(head[26:28], "little")]  # of the first record
        return NUMPY_ARCHIVE if name.endswith(b".npy") else ZIP
    if _MAGIC.search(head[:64]):
        return LEGACY
    if _begins_as_safetensors(head, size_bytes):
        return SAFETENSORS
    if head[257:262] == b"ustar":
        return TAR
    for signature, found in _SIGNATURES:
        if head.startswith(signature):
            return found
    return _by_content(head, size_bytes)


def detect_in_zip(names: Iterable[str]) -> Format | None:
    """Return the format of a zip file by the names of its records; None if torch can load it."""
    bare = [name.partition("/")[2] or name for name in names]
    if "data.pkl" in bare or "constants.pkl" in bare:
        return None
    every = [*bare, *names]
    if "archive_format" in bare:
        return Format("a torch.export archive (.pt2)", "torch.export.load reads it.")
    if ".data/extern_modules" in bare:
        return Format("a torch.package archive", "torch.package.PackageImporter reads it.")
    if every and all(name.endswith(".npy") for name in names):
        return NUMPY_ARCHIVE
    if "model.weights.h5" in every:
        return Format("a Keras model (.keras)", "keras.models.load_model reads it.")
    if "[Content_Types].xml" in every:
        return Format("an office document")
    return Format("a zip file without data.pkl")


def _begins_as_safetensors(head: bytes, size_bytes: int) -> bool:
    length = int.from_bytes(head[:8], "little")
    return len(head) >= 10 and 2 <= length <= min(size_bytes - 8, _LARGEST_HEADER) and head[8:9] == b"{"


def _by_content(head: bytes, size_bytes: int) -> Format:
    if not head.strip(b"\x00"):
        return Format(
            "nothing but zeros" if size_bytes <= len(head) else "zeros at its beginning", "It was cut or lost."
        )
    if head[4:8] == b"TFL3":
        return Format("a TensorFlow Lite model")
    if head[4:8] in (b"ET12", b"ET13"):
        return Format("an ExecuTorch program (.pte)")
    if head[:1] == b"\x78" and not int.from_bytes(head[:2], "big") % 31:
        return Format("compressed with zlib", _COMPRESSED)
    if _MULTIPART.match(head):
        return Format("a form's multipart envelope around a file", _ENVELOPE)
    if _CHUNKED.match(head):
        return Format("a chunked envelope around a file", _ENVELOPE)
    if _ONNX.match(head):
        return Format("a protobuf message (ONNX, say)", "onnx.load reads an ONNX model.")
    whole = head if size_bytes <= len(head) else head[:-1]
    if head[:1] == b"\x80" or (_PICKLE.match(head) and not _is_text(whole)):
        return _PLAIN_PICKLE
    return _of_text(whole) if _is_text(whole) else _UNKNOWN


def _is_text(data: bytes) -> bool:
    for encoding in ("utf-16", "utf-8") if data[:2] in (b"\xff\xfe", b"\xfe\xff") else ("utf-8",):
        for cut in range(4):  # the head may end within a character
            try:
                text = data[: len(data) - cut].decode(encoding)
            except UnicodeDecodeError:
                continue
            return all(character.isprintable() or character in _WHITE for character in text)
    return False


def _of_text(data: bytes) -> Format:
    text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8", "replace")
    start = text.lstrip("\ufeff \t\r\n")[:100].lower()
    if start.startswith(("<!doctype html", "<html", "<head", "<body")):
        return _PAGE
    if start.startswith("<"):
        return _XML
    if start.startswith(("{", "[")):
        return Format("JSON", "It may be the answer of a service, saved in the place of the file.")
    return Format("text")
