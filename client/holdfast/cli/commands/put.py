"""``holdfast put``: save a local file or folder as a checkpoint. Each command is a save of its own."""

import json
import math
import secrets
from itertools import count
from pathlib import Path
from typing import Annotated

import typer
from blake3 import blake3

from ..._api import digests
from ..._api.retry import PATIENCE_S, RetryDeadline
from ..._api.wire import Committed
from ..._arguments import values
from ..._arguments.name_grammar import check_checkpoint, check_tag
from ..._transfer import upload
from ..._transfer.folders.local_files import LocalFiles
from ..._transfer.progress import Progress
from ...errors import CheckpointNotFound, NotAllowed, ServerFailed
from .. import formatting, metadata
from ..options import AsJson, Directory, ServerUrl
from ..output import complain
from ..session import Json, Session
from ..statuses import Misuse, Status

_ABOUT_THE_COMMIT = {"policy", "removed", "removed_count", "other_writer", "repeated", "replaced"}
KINDS, MODES = ("regular", "best"), ("min", "max")


def put(
    path: Annotated[
        Path, typer.Argument(metavar="FILE_OR_FOLDER", exists=True, readable=True, help="File or folder to save.")
    ],
    directory: Directory,
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", help="Name of the checkpoint. Default: that of the file or folder."),
    ] = None,
    epoch: Annotated[int | None, typer.Option("--epoch", metavar="N", min=0, help="Epoch.")] = None,
    step: Annotated[
        int | None, typer.Option("--step", metavar="N", min=0, help="Optimizer steps so far, over all epochs.")
    ] = None,
    metric: Annotated[
        str | None, typer.Option("--metric", metavar="FLOAT", help="Metric that ranks it; nan and inf are allowed.")
    ] = None,
    meta: Annotated[
        list[str] | None,
        typer.Option("--meta", metavar="KEY=VALUE", help="Metadata: a number, other JSON, or else text. Repeatable."),
    ] = None,
    meta_json: Annotated[
        list[str] | None, typer.Option("--meta-json", metavar="KEY=JSON", help="Metadata as JSON. Repeatable.")
    ] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", metavar="TAG", help="Tag. Repeatable.")] = None,
    pin: Annotated[bool, typer.Option("--pin", help="Pin it, so that the policy keeps it.")] = False,
    manual: Annotated[
        bool, typer.Option("--manual", help="Keep it until it is deleted: no policy removes it, nor counts it.")
    ] = False,
    is_best: Annotated[bool, typer.Option("--is-best", help="Flag it as one of the best, without a metric.")] = False,
    kind: Annotated[str, typer.Option("--kind", metavar="KIND", help="regular or best.")] = "regular",
    mode: Annotated[
        str | None, typer.Option("--mode", metavar="MODE", help="min or max: the directory's mode, if it has none yet.")
    ] = None,
    only_if_improved: Annotated[
        bool, typer.Option("--only-if-improved", help="Save only if the metric is better than the best one.")
    ] = False,
    server: ServerUrl = None,
    as_json: AsJson = False,
) -> int:
    """Save a file or folder as a checkpoint. Repeat an interrupted command to resume it."""
    number = metadata.metric_of(metric) if metric is not None else None
    if kind not in KINDS:
        raise Misuse(f"--kind is {kind!r}: it must be {' or '.join(KINDS)}")
    if mode not in (None, *MODES):
        raise Misuse(f"--mode is {mode!r}: it must be {' or '.join(MODES)}")
    session = Session.of(server, as_json=as_json, patience_s=PATIENCE_S)
    called = check_checkpoint(name or _called(path))
    sources = LocalFiles(path, called)
    if path.is_file() and not path.stat().st_size:
        raise Misuse(f"{path} is empty: there is nothing to save")
    save: Json = {
        "directory": session.directory(directory),
        "name": called,
        "kind": kind,
        "epoch": values.counter("epoch", epoch),
        "metric": values.number_to_wire(number),
        "is_best": is_best,
        "pinned": pin,
        "tags": [check_tag(each) for each in tag or []],
        "metadata": values.metadata(metadata.given(meta or [], meta_json or [])),
        "only_if_improved": only_if_improved,
        **({"policy": {"mode": mode}} if mode else {}),
        **({"step": values.counter("step", step)} if step is not None else {}),
        **({"retention": "manual"} if manual else {}),
    }
    if only_if_improved and (number is None or not math.isfinite(number)):
        raise Misuse("--only-if-improved needs a --metric that is a finite number")
    return _report(session, _sent(session, save, sources))


def _called(path: Path) -> str:
    """Return the name of a path as given: a link's own name, or that of the folder that ``.`` or ``..`` means."""
    return path.name if path.name not in ("", "..") else path.resolve().name


def _sent(session: Session, save: Json, sources: LocalFiles) -> Committed:
    """Save and return the checkpoint once it is durable.

    Each command is a save of its own, also of content that was saved before. The id of the save follows from what is
    saved and what has its name, so that a command that was interrupted before its end is gone on with.
    """
    says = json.dumps(save, sort_keys=True)
    with Progress(f"read {save['name']}", sources.size_bytes) as bar:
        content = {path or "": digests.of_file(source.chunks(bar.moved)) for path, source in sources.items()}
    before = _newest(session, save["directory"], save["name"])
    for attempt in count():
        key = json.dumps([says, content, before, attempt], sort_keys=True).encode()
        committed = _send(session, {**save, "save_id": f"put-{blake3(key).hexdigest()[:32]}"}, sources)
        if not committed.was_there:
            return committed
    raise ServerFailed("unreachable")


def _send(session: Session, save: Json, sources: LocalFiles) -> Committed:
    return upload.send_files(
        session.server,
        {**save, **sources.about_folders},
        sources,
        patience=RetryDeadline(session.server.patience_s),
        before_commit=sources.refuse_changed,
    )


def _newest(session: Session, directory: str, name: str) -> str:
    """Return the last save under a name, also a removed one; a random word if the token may not read."""
    params = {"directory": directory, "name": name, "include_removed": True, "order_by": "-position", "page_size": 1}
    try:
        found = session.ask("/v1/checkpoints", **params)["checkpoints"]
    except CheckpointNotFound:
        return ""
    except NotAllowed:
        return secrets.token_hex(16)
    return f"{found[0]['id']} {found[0]['sequence']}" if found else ""


def _report(session: Session, committed: Committed) -> int:
    found = {key: value for key, value in committed.answer.items() if key not in _ABOUT_THE_COMMIT}
    if committed.loss is not None:
        complain(committed.loss)
    if session.out.as_json:
        more = {
            "repeated": False,
            "replaced": committed.replaced,
            "removed": list(committed.removed),
            "policy": dict(committed.policy),
        }
        session.out.document({"checkpoint": found, **more})
        return Status.DONE
    if not session.out.is_terminal:
        session.out.row([session.path_of(found)])
        return Status.DONE
    session.out.line(f"{session.path_of(found)} is saved ({formatting.size(found['size_bytes'])})")
    if committed.removed:
        session.out.line(f"removed by the policy: {', '.join(committed.removed)}", "dim")
    return Status.DONE
