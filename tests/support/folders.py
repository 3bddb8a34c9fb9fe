"""A checkpoint of several files, put on a server by the command."""

from pathlib import Path

from holdfast.cli import main

FILES = {"model.bin": b"m" * 3000, ".config": b"{}", "deep/er.bin": b"deep"}


def put_folder(folder: Path, directory: str) -> str:
    """Put a folder of a few files into a directory; its path in the tree."""
    for path, data in FILES.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    assert main(["put", str(folder), directory, "--metric", "0.1"]) == 0
    return f"{directory}/{folder.name}"
