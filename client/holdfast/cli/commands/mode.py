"""``holdfast mode``: rank a directory by the smallest or by the largest metric."""

from typing import Annotated

import typer

from ..._api.directory import RemoteDirectory
from ..._api.mode import change_mode
from ...errors import CheckpointNotFound
from .. import formatting
from ..options import AsJson, Directory, ServerUrl
from ..session import Session
from ..statuses import Misuse, Status


def mode(
    directory: Directory,
    ranked_by: Annotated[
        str, typer.Argument(metavar="MODE", help="min if smaller metrics are better, max if larger ones are.")
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Only show the effect.")] = False,
    server: ServerUrl = None,
    as_json: AsJson = False,
) -> int:
    """Rank a directory by the smallest (min) or the largest (max) metric; --dry-run only shows the effect."""
    if ranked_by not in ("min", "max"):
        raise Misuse(f"the mode is min or max, not {ranked_by!r}")
    session = Session.of(server, as_json=as_json)
    name = session.directory(directory)
    if session.described(name) is None:
        raise CheckpointNotFound(f"there is no directory {directory!r}")
    done = change_mode(RemoteDirectory(session.server, name), ranked_by, dry_run=dry_run)
    if as_json:
        session.out.document(done)
        return Status.DONE
    session.out.row([session.shown(name), f"mode={ranked_by}", f"was {done['before'] or formatting.NONE}"])
    for each in done["best"]:
        session.out.row([f"{session.shown(name)}/{each}", "best"])
    for each in done["goes"]:
        session.out.row([f"{session.shown(name)}/{each}", "would go" if dry_run else "goes at the next save or prune"])
    return Status.DONE
