"""``holdfast doctor``: a check of the server from this machine, with figures and advice."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated, Any

import typer

from ... import __version__
from ..._arguments import checks
from .. import formatting
from ..diagnosis import CheckResult, Diagnosis
from ..options import AsJson, ServerUrl, SpoolFolder
from ..output import Cell, Output
from ..session import Session
from ..statuses import Status
from . import sync


def doctor(
    directory: Annotated[
        str, typer.Option("--directory", metavar="DIRECTORY", help="Directory for test saves.")
    ] = "holdfast-doctor",
    size_mib: Annotated[
        int, typer.Option("--size", metavar="MIB", min=1, max=4096, help="Amount to upload and to download.")
    ] = 64,
    time_s: Annotated[
        float, typer.Option("--time", metavar="SECONDS", min=0.1, help="Approximate time limit of each direction.")
    ] = 10.0,
    spool: SpoolFolder = None,
    server: ServerUrl = None,
    as_json: AsJson = False,
) -> int:
    """Check that the server can be reached and used from this machine, and how fast; give advice for each problem."""
    time_s = checks.seconds("--time", time_s)
    session = Session.of(server, as_json=as_json)
    diagnosis = Diagnosis(session, session.directory(directory), size_mib, time_s)
    findings = []
    with _ended_like_ctrl_c():
        for finding in (*diagnosis.results(), _spool(session, sync.spool_at(spool))):
            findings.append(finding)
            if not as_json:
                _show(session.out, finding)
    ok = all(finding.ok for finding in findings)
    if as_json:
        about = {"client_version": __version__, "server": session.server.url}
        session.out.document({"ok": ok, **about, "findings": [asdict(each) for each in findings], **diagnosis.figures})
    return Status.DONE if ok else Status.NO


@contextmanager
def _ended_like_ctrl_c() -> Iterator[None]:
    """Make SIGTERM end the diagnosis like Ctrl-C, so that its checkpoints are removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _show(out: Output, found: CheckResult) -> None:
    mark = Cell("ok  " if found.ok else "FAIL", "ok" if found.ok else "fail", "green" if found.ok else "bold red")
    out.row([mark, Cell(f"{found.check:<8}", found.check, "bold"), found.text])
    if found.advice:
        out.row([Cell("    ", "advice"), Cell(" " * 8, found.check), Cell(f"→ {found.advice}", found.advice, "yellow")])


def _spool(session: Session, spool: Any) -> CheckResult:
    found = sync.waiting(spool)
    items = [(queue, item) for queue in found["queues"] for item in queue["waiting"]]
    refused = sum(len(queue["refused"]) for queue in found["queues"])
    if not items and not refused:
        return CheckResult("spool", True, f"nothing waits in {found['spool']}")
    size = formatting.size(sum(item["size_bytes"] for _, item in items))
    text = f"{formatting.count(len(items), 'checkpoint')} ({size}) in {found['spool']}, {refused} refused"
    advice = "holdfast sync" if items else "holdfast sync --list says why; holdfast sync --retry-refused tries again"
    return CheckResult("spool", not items and not refused, text, advice)
