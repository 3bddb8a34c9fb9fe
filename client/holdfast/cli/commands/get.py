"""``holdfast get``: download a checkpoint to a file, a folder or a stream, or some of its tensors to a torch file."""

import fnmatch
import io
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from ..._api.retry import PATIENCE_S
from ..._api.wire import FileChunks
from ..._options import cache_of
from ..._query import paged
from ..._query.placing import CACHE_BYTES, file_named, put_at
from ..._runtime.packages import install_command
from ..._transfer import destination, download
from ..._transfer.contents import contents_of, file_of
from ...errors import CheckpointNotFound
from .. import formatting
from ..options import AsJson, CheckpointPath, ServerUrl, Which
from ..session import Json, Session, wire
from ..statuses import Misuse, Status

STDOUT = "-"
_STDOUT = ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")


def get(
    path: CheckpointPath,
    which: Which = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            help="File, folder, or - for standard output. Default: the checkpoint's name, in the current folder.",
        ),
    ] = None,
    file: Annotated[
        str | None, typer.Option("--file", metavar="FILE", help="Only this file of a checkpoint with several files.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="KEY", help="Only this key of the state. Repeatable.")
    ] = None,
    tensor: Annotated[
        list[str] | None,
        typer.Option(
            "--tensor",
            metavar="PATTERN",
            help="Only tensors with matching names, such as 'model.layer1.*'. Repeatable.",
        ),
    ] = None,
    server: ServerUrl = None,
    as_json: AsJson = False,
) -> int:
    """Download a checkpoint; every byte is verified."""
    output = STDOUT if output in _STDOUT else output
    if output is not None and output != STDOUT:
        slash = "/" if destination.names_folder(output) else ""  # a Path drops the slash
        output = f"{destination.local('--output', output)}{slash}"
    if bool(file) + bool(only) + bool(tensor) > 1:
        raise Misuse("--file, --only and --tensor cannot be combined")
    if output == STDOUT and as_json:
        raise Misuse("standard output takes the bytes or JSON, not both: leave out --json")
    if output == STDOUT and sys.stdout.isatty():
        raise Misuse("raw bytes do not belong on a terminal: redirect standard output to a file or a program")
    session = Session.of(server, as_json=as_json, patience_s=PATIENCE_S)
    if which is None and session.described(session.directory(path)):
        raise Misuse(f"{path!r} is a directory: name a checkpoint, as in 'holdfast get {path} best'")
    checkpoint = session.find(path, which)
    if only or tensor:
        return _part(session, checkpoint, output, only, tensor)
    if output == STDOUT:
        return _to_stdout(session, checkpoint, file)
    return _to_files(session, checkpoint, output, file)


def _to_files(session: Session, checkpoint: Json, output: str | None, file: str | None) -> int:
    found = _file(session, checkpoint, file) if file else None
    target = put_at(
        session.server,
        wire(checkpoint),
        Path(output or "."),
        is_folder=output is not None and destination.names_folder(output),
        file=found,
        cache=cache_of(None, CACHE_BYTES) if found is None else None,
    )
    return _report(session, checkpoint, target, checkpoint["size_bytes"] if found is None else found.size_bytes)


def _to_stdout(session: Session, checkpoint: Json, file: str | None) -> int:
    found = _file(session, checkpoint, file)
    sink = sys.stdout.buffer
    download.into_stream(session.server, found, sink.write, None)
    sink.flush()
    return Status.DONE


def _file(session: Session, checkpoint: Json, path: str | None) -> FileChunks:
    if path is not None:
        return file_named(session.server, wire(checkpoint), path)
    first, *others = files = contents_of(session.server, wire(checkpoint)).files
    if others:
        names = ", ".join(file.path for file in files)
        raise Misuse(f"{checkpoint['name']} has {len(files)} files: choose one with --file, of {names}")
    return first


def _part(
    session: Session, checkpoint: Json, output: str | None, only: list[str] | None, patterns: list[str] | None
) -> int:
    """Write some keys of a state, or some tensors by name, to a torch file of their own."""
    if output is None or (output != STDOUT and (Path(output).is_dir() or destination.names_folder(output))):
        raise Misuse("--only and --tensor write a new file: name it with --output")
    if find_spec("torch") is None:
        raise Misuse(f"--only and --tensor need torch: {install_command('torch')}")
    if patterns:
        state = _matching(_state(session, checkpoint, *_keys(session, checkpoint, patterns), None), patterns)
    else:
        state = _state(session, checkpoint, only)
    size_bytes = _written(state, output)
    return Status.DONE if output == STDOUT else _report(session, checkpoint, Path(output), size_bytes)


def _state(session: Session, checkpoint: Json, *choices: list[str] | None) -> Any:
    """Return the part of a state under the first choice of keys that it has; None chooses all of it."""
    file = file_of(session.server, wire(checkpoint))
    for place, only in enumerate(choices, 1):
        try:
            return download.file_state(
                session.server, file, only=only, map_location="cpu", cache=cache_of(None, CACHE_BYTES)
            )
        except KeyError as error:
            if place == len(choices):
                raise CheckpointNotFound(str(error.args[0]), code="key_not_found") from error
    raise AssertionError("unreachable: the last choice returns or raises")


def _keys(session: Session, checkpoint: Json, patterns: list[str]) -> tuple[list[str], list[str]]:
    """Return the keys that tensors of such names may be under: ``a`` of ``a.b``, or ``a.b`` in a flat state."""
    names = [tensor["name"] for file in paged.tensors(session, checkpoint) for tensor in file["tensors"]]
    found = [name for name in names if _matches(name, patterns)]
    if not found:
        raise CheckpointNotFound(f"no tensor of {checkpoint['name']} matches", code="tensor_not_found")
    return list(dict.fromkeys(name.split(".")[0] for name in found)), found


def _matching(state: Any, patterns: list[str]) -> dict[str, Any]:
    """Return copies of the tensors of these names, flat: a tensor itself would bring its whole storage along."""
    from ..._torchfile.writer.layout import named_tensors

    return {name: found.clone() for name, found in named_tensors(state) if _matches(name, patterns)}


def _matches(name: str, patterns: list[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _written(state: Mapping[str, Any], output: str) -> int:
    """Write a torch file atomically; return its size in bytes."""
    import torch

    target = Path(output)
    stream = sys.stdout.buffer if output == STDOUT else destination.stream_at(target)
    if stream is not None:
        memory = io.BytesIO()
        torch.save(state, memory)
        with nullcontext() if output == STDOUT else stream:
            return stream.write(memory.getbuffer())
    with destination.replaced(target) as temporary:
        torch.save(state, temporary)
    return target.stat().st_size


def _report(session: Session, checkpoint: Json, target: Path, size_bytes: int) -> int:
    if session.out.as_json:
        session.out.document({"checkpoint": checkpoint, "path": str(target), "size_bytes": size_bytes})
    elif session.out.is_terminal:
        session.out.line(f"{session.path_of(checkpoint)} is in {target} ({formatting.size(size_bytes)})")
    else:
        session.out.row([str(target)])
    return Status.DONE
