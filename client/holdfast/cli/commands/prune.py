"""``holdfast prune``: show the checkpoints that the policy keeps, with reasons, and remove the others."""

from typing import Annotated

import typer

from ..._query import paged
from .. import formatting
from ..completion import directory_names
from ..options import AsJson, ServerUrl
from ..output import Cell
from ..session import Json, Session
from ..statuses import Misuse, Status
from .mark import confirmed

_TRYING = "--last, --best, --every, --every-steps and --mode"


def prune(
    directory: Annotated[
        str | None, typer.Argument(metavar="DIRECTORY", help="Directory to prune.", autocompletion=directory_names)
    ] = None,
    prefix: Annotated[
        str | None,
        typer.Option("--prefix", metavar="PREFIX", help="Prune all directories at and below a prefix; '' means all."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Only show what would be removed.")] = False,
    last: Annotated[
        int | None,
        typer.Option("--last", metavar="N", min=0, help="With --dry-run: try a policy that keeps the last N."),
    ] = None,
    best: Annotated[
        int | None,
        typer.Option("--best", metavar="K", min=0, help="With --dry-run: try a policy that keeps the best K."),
    ] = None,
    every: Annotated[
        int | None,
        typer.Option(
            "--every", metavar="E", min=1, help="With --dry-run: try a policy that also keeps every E epochs."
        ),
    ] = None,
    every_steps: Annotated[
        int | None,
        typer.Option(
            "--every-steps", metavar="S", min=1, help="With --dry-run: try a policy that also keeps every S steps."
        ),
    ] = None,
    mode: Annotated[
        str | None,
        typer.Option("--mode", metavar="MODE", help="With --dry-run: try a policy that ranks by min or max."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    server: ServerUrl = None,
    as_json: AsJson = False,
) -> int:
    """Show which checkpoints the policy keeps and why, and remove the others; --dry-run only shows them."""
    if directory is None and prefix is None:
        raise Misuse("give a directory, or --prefix")
    if directory is not None and prefix is not None:
        raise Misuse("a directory and --prefix are both given; only one can be used")
    session = Session.of(server, as_json=as_json)
    tried = {
        "max_checkpoints": last,
        "max_best_checkpoints": best,
        "keep_every_epochs": every,
        "keep_every_steps": every_steps,
        "mode": mode,
    }
    policy = _policy(tried)
    if policy and not dry_run:
        raise Misuse(f"{_TRYING} only try out a policy: they need --dry-run")
    if policy and directory is None:
        raise Misuse(f"{_TRYING} need one directory, not --prefix")
    body: Json = {"prefix": session.below(prefix)} if directory is None else {"directory": session.directory(directory)}
    judged = paged.prune(session, {**body, "dry_run": True, **policy})
    if not dry_run:
        count = sum(not verdict["stays"] for each in judged["directories"] for verdict in each["verdicts"])
        question = f"Remove {formatting.count(count, 'checkpoint')} ({formatting.size(judged['freed_bytes'])})?"
        if count and not confirmed(question, yes):
            return Status.NO
        judged = paged.prune(session, {**body, "dry_run": False})
    _show(session, judged)
    return Status.DONE


def _policy(tried: Json) -> Json:
    given = {name: value for name, value in tried.items() if value is not None}
    return {"policy": given} if given else {}


def _show(session: Session, judged: Json) -> None:
    if session.out.as_json:
        session.out.document(judged)
        return
    is_terminal, goes = session.out.is_terminal, "would go" if judged["dry_run"] else "removed"
    for each in judged["directories"]:
        if is_terminal:
            session.out.line(f"{session.shown(each['directory'])}: keeps {formatting.policy(each['policy'])}", "bold")
        columns = ["  CHECKPOINT" if is_terminal else "", ">METRIC", ">SIZE", "", "WHY"]
        session.out.table(columns, [_row(session, verdict, goes) for verdict in each["verdicts"]])
    if is_terminal and judged.get("omitted"):
        session.out.line(f"and {formatting.count(judged['omitted'], 'verdict')} more", "dim")
    if is_terminal:
        word = "would be freed" if judged["dry_run"] else "freed"
        session.out.line(f"{formatting.size(judged['freed_bytes'])} {word}", "bold")


def _row(session: Session, verdict: Json, goes: str) -> list[Cell | str]:
    found, stays = verdict["checkpoint"], verdict["stays"]
    why = ", ".join(reason["text"] for reason in verdict["reasons"])
    return [
        Cell(f"  {found['name']}", session.path_of(found), "" if stays else "dim"),
        Cell.number(found["metric"]),
        Cell.size(found["size_bytes"]),
        Cell("stays" if stays else goes, "stays" if stays else "goes", "green" if stays else "red"),
        Cell(why, why or formatting.NONE),
    ]
