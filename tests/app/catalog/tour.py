"""A tour through the whole API and the dashboard, and every statement that the catalog executes on the way."""

import itertools
import re
import socket
import threading
from contextlib import contextmanager
from datetime import timedelta
from types import SimpleNamespace

import httpx
import uvicorn
from sqlalchemy import event

from app.bootstrap import open_root, utc_now
from app.catalog.tables.order import ORDERS
from app.cli.serve import _protocol
from app.main import create_app
from app.service import Rules
from app.service.maintenance import janitor
from app.service.maintenance.trim import Trim
from app.service.query.timeline import LENGTHS
from app.settings import Settings
from tests.app.auth.test_authorization import FOR_EVERY_PLACE, ROUTES, Place
from tests.support.live import eventually

DIRECTORY = "runs/a"
FILTERS = (
    {"name": "c1.pt"},
    {"kind": "best"},
    {"pinned": True},
    {"is_best": True},
    {"tag": "good"},
    {"epoch_min": 0},
    {"epoch_max": 9},
    {"metric_min": 0},
    {"metric_max": 9},
)
PAGES = (
    "/",
    "/?prefix=runs",
    "/directories/runs/a",
    "/directories/runs/a?order_by=best&include_removed=true",
    "/storage",
    "/storage?prefix=runs",
    "/storage/series?span=all",
    "/storage/series?span=week",
    "/series/runs/a",
    "/series/runs/a?by=loss",
    "/names?prefix=runs",
    "/previews/runs/a?max_checkpoints=1&max_best_checkpoints=1",
)


class _Server(uvicorn.Server):
    """A server on a thread, which gets no signals."""

    @contextmanager
    def capture_signals(self):
        yield


class Recorded(dict):
    """Statements by their shape, each with the parameters of one of its executions."""

    def add(self, connection, cursor, statement, parameters, context, many):
        if statement.split()[0] in {"SELECT", "WITH", "UPDATE", "DELETE"}:
            self.setdefault(shape(statement), (statement, parameters[0] if many else parameters))


def shape(statement):
    """Return a statement without the list of what it selects or sets, and with one form of each list."""
    text = " ".join(statement.split())
    text = re.sub(r"\(\?(, \?)+\)", "(?...)", text)
    text = re.sub(r"^SELECT (?!.*\bSELECT\b).*? FROM ", "SELECT ... FROM ", text)
    return re.sub(r" SET .*? WHERE ", " SET ... WHERE ", text)


def recorded(folder):
    """Take the tour; the statements, and the database that it leaves behind before rows go for their age."""
    settings = Settings(root=folder / "root", undo_window="1h", quotas={"runs": {"max_bytes": "1GB"}})
    ahead = [timedelta()]
    service = open_root(settings, clock=lambda: utc_now() + ahead[0])
    found = Recorded()
    event.listen(service.context.catalog._engine, "before_cursor_execute", found.add)
    with closing_server(service, settings) as http:
        take(http)
        for span in LENGTHS:
            service.usage.history("runs", span)
        service.usage.removed("runs")
        janitor.tidy(service)
        ahead[0] = timedelta(hours=2)  # the end of the undo window
        janitor.tidy(service)
        service.context.catalog.back_up(every=timedelta(), now=utc_now())
        Trim(service.context, Rules(**dict.fromkeys(("keep_events", "keep_audit", "keep_removed"), timedelta()))).run()
    return found, folder / "root" / ".holdfast" / "catalog.db.copy"


@contextmanager
def closing_server(service, settings):
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(create_app(settings, service), http=_protocol(settings), ws="none", log_config=None)
    server = _Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        assert eventually(lambda: server.started)
        with httpx.Client(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=60) as http:
            yield http
    finally:
        server.should_exit = True
        thread.join()


def take(http):
    place = Place(SimpleNamespace(http=http), {}, DIRECTORY)
    checked(http.put(f"/v1/directories/{DIRECTORY}", json={"mode": "max"}))
    save(http)
    for mode in ("min", "max"):
        limits = {"mode": mode, "max_checkpoints": 3, "max_best_checkpoints": 2, "keep_every_epochs": 5}
        checked(http.put(f"/v1/directories/{DIRECTORY}", json=limits))
        save(http)
        lists(http)
    for operation, (_, method, address, *sent) in ROUTES.items():
        if operation != "clear_directory":
            place.checkpoint()
            checked(http.request(method, address(place), **(sent[0](place) if sent else {})))
    tree(http)
    for _, address in FOR_EVERY_PLACE.values():
        checked(http.get(address))
    for address in (*PAGES, place.checkpoint()[3:]):
        checked(http.get(address, headers={"Accept": "text/html"}))
    checked(http.post("/v1/prune", json={"prefix": "runs", "dry_run": True}))
    checked(http.request("DELETE", f"/v1/directories/{DIRECTORY}"))


def tree(http):
    """List every level of the tree, and find everything in it by its name and by an alias."""
    files = {"f.bin": b"f", "sub/g.bin": b"g", "sub/h.bin": b"h"}
    body = {"directory": f"{DIRECTORY}/inner", "name": "folder", "folders": [{"path": "empty"}]}
    body["files"] = [{"path": path, "size_bytes": len(data)} for path, data in files.items()]
    upload = http.post("/v1/uploads", json=body).json()
    for wanted in upload["missing"]:
        checked(http.put(wanted["url"], content=files[wanted["file"]]))
    checked(http.post(f"/v1/uploads/{upload['id']}/commit"))
    share(http)
    paths = ["", "runs", DIRECTORY, f"{DIRECTORY}/@best", f"{DIRECTORY}/@latest"]
    paths += [f"{DIRECTORY}/inner/folder{inner}" for inner in ("", "/sub", "/sub/g.bin", "/empty")]
    for path in paths:
        query, token = {"path": path, "page_size": 1}, ""
        while token is not None:
            page = {"page_token": token} if token else {}
            token = checked(http.get("/v1/tree", params=query | page)).json()["next_page_token"]
    checked(http.request("DELETE", f"/v1/directories/{DIRECTORY}/inner"))


def share(http):
    """A shared upload of two writers, taken over by a second attempt."""
    body = {"directory": "runs/shared", "name": "s", "save_id": "shared-tour", "shared": True}
    address = f"/v1/uploads/{http.post('/v1/uploads', json=body).json()['id']}"
    for attempt in (0, 1):
        checked(http.post("/v1/uploads", json={**body, "attempt": attempt}))
        for writer in ("a", "b"):
            files = [{"path": f"{writer}/{name}", "size_bytes": 0} for name in ("x", "y")]
            checked(http.post(f"{address}/files", json={"writer": writer, "attempt": attempt, "files": files}))
        checked(http.post(f"{address}/rename", json={"writer": "a", "attempt": attempt, "path": "a/x", "to": "a/z"}))
        checked(http.delete(f"{address}/files/a/y", params={"writer": "a", "attempt": attempt}))
        checked(http.post(f"{address}/ready", json={"writer": "a", "attempt": attempt}))
        checked(http.get("/v1/uploads"))
        checked(http.get("/v1/uploads", params={"prefix": "runs"}))
    checked(http.post(f"{address}/ready", json={"writer": "b", "attempt": 1}))
    checked(http.post(f"{address}/commit", json={"attempt": 1}))


def save(http):
    """Save under new names, and again under them: the same content and other content."""
    for number, content in itertools.product(range(9), ("same", "same", "other")):
        query = {"directory": DIRECTORY, "name": f"c{number}.pt", "epoch": number, "tags": "good"}
        query |= {"metric": number, "metadata": f'{{"loss": {number}}}'} if number % 2 else {"is_best": True}
        checked(http.post("/v1/checkpoints", params=query, content=content))


def lists(http):
    shown = [{"order_by": order} for order in ORDERS] + [{"order_by": "best", "by": "loss"}]
    shown = [{**each, "include_removed": removed} for each in shown for removed in (False, True)]
    shown += [{"order_by": order, **each} for order in ("position", "-position", "best") for each in FILTERS]
    shown += [{"order_by": "best", "by": "loss", **each} for each in FILTERS]
    for mode, each in itertools.product(("min", "max"), shown):
        query, token = {"directory": DIRECTORY, "mode": mode, "page_size": 2, **each}, None
        while True:
            page = checked(http.get("/v1/checkpoints", params=query | ({"page_token": token} if token else {}))).json()
            if (token := page["next_page_token"]) is None:
                break


def checked(answer):
    assert answer.status_code < 400, (answer.request.url, answer.text)
    return answer
