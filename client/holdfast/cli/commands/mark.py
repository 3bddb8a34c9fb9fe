"""``holdfast pin``, ``unpin``, ``tag``, ``rm`` and ``restore``: pins and tags, removal and restoration."""

import sys
from typing import Annotated, Any
from urllib.parse import quote

import typer

from ..._arguments.name_grammar import check_checkpoint, check_tag
from ..._query import changes
from ...errors import CheckpointNotFound, HoldfastError, NotAllowed
from .. import formatting
from ..options import AsJson, CheckpointPaths, CheckpointsOrDirectories, RemovedPaths, ServerUrl
from ..output import complain
from ..session import Json, Session
from ..statuses import Misuse, Status, status_of


def pin(
    paths: CheckpointPaths,
    off: Annotated[bool, typer.Option("--off", help="Unpin; the same as the command unpin.")] = False,
    server: ServerUrl = None,
    as_json: AsJson = False,
) -> int:
    """Pin checkpoints: the policy keeps them until they are unpinned."""
    return _change_all(Session.of(server, as_json=as_json), paths, lambda _: {"pinned": not off})


def unpin(paths: CheckpointPaths, server: ServerUrl = None, as_json: AsJson = False) -> int:
    """Unpin checkpoints: the policy may remove them again."""
    return _change_all(Session.of(server, as_json=as_json), paths, lambda _: {"pinned": False})


def tag(
    paths: CheckpointPaths,
    add: Annotated[
        list[str] | None, typer.Option("--add", "-a", metavar="TAG", help="Add this tag. Repeatable.")
    ] = None,
    remove: Annotated[
        list[str] | None, typer.Option("--remove", "-r", metavar="TAG", help="Remove this tag. Repeatable.")
    ] = None,
    server: ServerUrl = None,
    as_json: AsJson = False,
) -> int:
    """Add tags to checkpoints, or remove tags."""
    if not add and not remove:
        raise Misuse("name tags with --add or --remove")
    for each in [*(add or []), *(remove or [])]:
        check_tag(each)

    def tags(found: Json) -> Json:
        return {"tags": changes.tags_after(found["tags"], add=add or [], remove=remove or [])}

    return _change_all(Session.of(server, as_json=as_json), paths, tags)


def rm(
    paths: CheckpointsOrDirectories,
    everything: Annotated[
        bool, typer.Option("--all", help="The paths are directories: remove every checkpoint in them.")
    ] = False,
    include_pinned: Annotated[
        bool, typer.Option("--include-pinned", help="With --all, also remove pinned checkpoints.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    server: ServerUrl = None,
    as_json: AsJson = False,
) -> int:
    """Remove checkpoints, or with --all everything in a directory. A terminal asks first; a script needs --yes."""
    if include_pinned and not everything:
        raise Misuse("--include-pinned needs --all; unpin a single checkpoint first")
    session = Session.of(server, as_json=as_json)
    if everything:
        return _clear(session, paths, yes=yes, include_pinned=include_pinned)
    found = [_to_remove(session, path) for path in dict.fromkeys(paths)]
    size = formatting.size(sum(each["size_bytes"] for each in found))
    what = session.path_of(found[0]) if len(found) == 1 else formatting.count(len(found), "checkpoint")
    if not confirmed(f"Remove {what} ({size})?", yes):
        return Status.NO
    return _each(session, found, lambda each: _removed(session, each), "removed")


def restore(paths: RemovedPaths, server: ServerUrl = None, as_json: AsJson = False) -> int:
    """Restore removed checkpoints while the server still has their bytes."""
    session = Session.of(server, as_json=as_json)
    found = [_removed_named(session, path) for path in dict.fromkeys(paths)]
    return _each(session, found, lambda each: changes.restore(session.server, each["id"]), "restored")


def _change_all(session: Session, paths: list[str], change: Any) -> int:
    found = [session.find(path) for path in dict.fromkeys(paths)]

    def changed(each: Json) -> Json:
        return changes.patch(session.server, each["id"], change(each))

    return _each(session, found, changed, "")


def _each(session: Session, found: list[Json], act: Any, what: str) -> int:
    """Apply an action to each checkpoint; report a failure and continue with the next."""
    done, worst = [], Status.DONE
    for each in found:
        try:
            done.append(after := act(each))
        except HoldfastError as error:
            complain(f"{session.path_of(each)}: {error}")
            worst = max(worst, Status.NO if len(found) > 1 else status_of(error))
        else:
            if not session.out.as_json:
                session.out.row(
                    [session.path_of(after), what or formatting.flags(after) or "no marks", *_undo(what, after)]
                )
    if session.out.as_json:
        session.out.document({"checkpoints": done})
    return worst


def _undo(what: str, after: Json) -> list[str]:
    if what != "removed":
        return []
    return ["can be restored: holdfast restore" if after.get("restorable") else "cannot be undone"]


def _to_remove(session: Session, path: str) -> Json:
    try:
        return session.find(path)
    except CheckpointNotFound:
        if session.described(session.directory(path)) is None:
            raise
    raise Misuse(f"{path!r} is a directory: use --all to remove all its checkpoints")


def _removed(session: Session, found: Json) -> Json:
    changes.delete(session.server, found["id"])
    return session.ask(f"/v1/checkpoints/{found['id']}")


def _clear(session: Session, paths: list[str], *, yes: bool, include_pinned: bool) -> int:
    directories = []
    for path in dict.fromkeys(paths):
        found = session.described(session.directory(path))
        if found is None:
            raise CheckpointNotFound(f"there is no directory {path!r}")
        directories.append(found)
    count, size = sum(each["count"] for each in directories), sum(each["size_bytes"] for each in directories)
    named = ", ".join(session.shown(each["directory"]) for each in directories)
    if not confirmed(f"Remove {formatting.count(count, 'checkpoint')} ({formatting.size(size)}) of {named}?", yes):
        return Status.NO
    params = {"include_pinned": include_pinned}
    answers = {}
    for each in directories:
        path = f"/v1/directories/{quote(each['directory'])}"
        answers[each["directory"]] = session.server.call("DELETE", path, params=params)
    if session.out.as_json:
        session.out.document({"directories": [{"directory": name, **cleared} for name, cleared in answers.items()]})
    else:
        for name, cleared in answers.items():
            _say_cleared(session, name, cleared)
    return Status.NO if any(cleared["pinned"] for cleared in answers.values()) else Status.DONE


def _say_cleared(session: Session, name: str, cleared: Json) -> None:
    freed = formatting.size(cleared["freed_bytes"])
    removed = formatting.count(len(cleared["removed"]), "checkpoint")
    session.out.row([session.shown(name), f"removed {removed}, {freed}", *_undo_of_clear(session, name, cleared)])
    if cleared["pinned"]:
        complain(f"pinned checkpoints stay in {session.shown(name)}: {', '.join(cleared['pinned'])}")


def _undo_of_clear(session: Session, directory: str, cleared: Json) -> list[str]:
    """Return the same as `_undo`, by one of the removed checkpoints; nothing if the token may not read it."""
    if not cleared["removed"]:
        return []
    try:
        found = session.named(directory, cleared["removed"][-1], include_removed=True)
    except NotAllowed:
        return []
    return _undo("removed", max(found, key=lambda each: str(each["removed_at"]))) if found else []


def _removed_named(session: Session, path: str) -> Json:
    """Return the newest removed checkpoint of a name that can be restored; refuse if one of that name is live."""
    directory, _, name = path.rstrip("/").rpartition("/")
    if not directory:
        raise Misuse(f"{path!r} names no checkpoint: give DIRECTORY/NAME")
    return session.removed(directory, check_checkpoint(name))


def confirmed(question: str, yes: bool) -> bool:
    """Ask the user for confirmation; raise `Misuse` without a terminal."""
    if yes:
        return True
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise Misuse(f"{question} Without a terminal, confirm with --yes")
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
