"""Every route with every scope, inside and outside the prefix of a token, and without one."""

import itertools
import json
from dataclasses import dataclass
from datetime import timedelta

import pytest

from app.core.access import SCOPES
from tests.support.live import PROJECT, LiveServer
from tests.support.tokens import bearer, mint, revoke

JSON = {"Content-Type": "application/json"}
_numbers = itertools.count()


@dataclass
class Place:
    """A directory with contents, which an admin creates again each time one is named."""

    server: LiveServer
    admin: dict
    directory: str

    def checkpoint(self, **query):
        query = {"directory": self.directory, "name": f"c{next(_numbers)}.pt", "metric": 1, **query}
        answer = self.server.http.post("/v1/checkpoints", params=query, content=b"bytes", headers=self.admin)
        assert answer.status_code == 201, answer.text
        return f"/v1/checkpoints/{answer.json()['id']}"

    def removed(self):
        found = self.checkpoint()
        assert self.server.http.delete(found, headers=self.admin).status_code == 200
        return found

    def upload(self, *, sent=False):
        body = {"directory": self.directory, "name": f"u{next(_numbers)}.pt", "files": [{"size_bytes": 5}]}
        found = self.server.http.post("/v1/uploads", json=body, headers=self.admin).json()
        if sent:
            self.server.http.put(found["missing"][0]["url"], content=b"bytes", headers=self.admin).raise_for_status()
        return f"/v1/uploads/{found['id']}", found["name"]

    def shared(self):
        number = next(_numbers)
        said = {"directory": self.directory, "name": f"s{number}", "save_id": f"shared-{number:08}", "shared": True}
        found = self.server.http.post("/v1/uploads", json=said, headers=self.admin).json()
        address = f"/v1/uploads/{found['id']}"
        said = json.loads(shared_body("f")["content"])
        self.server.http.post(f"{address}/files", json=said, headers=self.admin).raise_for_status()
        return address


def shared_body(path):
    return body(writer="w", files=[{"path": path, "size_bytes": 0}])


def tensors(place):
    file = {"size_bytes": 0, "chunks": [], "tensors": []}
    body = {"directory": place.directory, "name": f"t{next(_numbers)}.pt", "files": [file]}
    upload = place.server.http.post("/v1/uploads", json=body, headers=place.admin).json()
    answer = place.server.http.post(f"/v1/uploads/{upload['id']}/commit", headers=place.admin)
    return f"/v1/checkpoints/{answer.json()['id']}/tensors"


def named(place):
    found = place.checkpoint(name=f"f{next(_numbers)}.pt")
    name = place.server.http.get(found, headers=place.admin).json()["name"]
    return f"{found}/files/{name}"


def named_by(place, which):
    query = f"directory={place.directory}"
    answer = place.server.http.get(f"/v1/checkpoints/{which}?{query}", headers=place.admin)
    name = answer.json()["name"] if answer.status_code == 200 else "f.pt"
    return f"/v1/checkpoints/{which}/files/{name}?{query}"


def body(**said):
    return {"content": json.dumps(said), "headers": JSON}


def upload_body(place):
    return body(directory=place.directory, name=f"n{next(_numbers)}.pt", files=[{"size_bytes": 5}])


def small_body(place):
    line = json.dumps({"directory": place.directory, "name": f"m{next(_numbers)}.pt", "files": [{"size_bytes": 5}]})
    return {"content": line.encode() + b"\nbytes", "headers": {"Content-Type": "application/vnd.holdfast.save"}}


ROUTES = {
    # operation: scope, method, address of something in a place, and what else is sent
    "list_directories": ("read", "GET", lambda p: f"/v1/directories?prefix={p.directory}"),
    "get_directory": ("read", "GET", lambda p: f"/v1/directories/{p.directory}"),
    "get_tree": ("read", "GET", lambda p: f"/v1/tree?path={p.directory}"),
    "set_policy": ("admin", "PUT", lambda p: f"/v1/directories/{p.directory}", lambda p: body(max_checkpoints=999)),
    "clear_directory": ("delete", "DELETE", lambda p: f"/v1/directories/{p.directory}"),
    "list_checkpoints": ("read", "GET", lambda p: f"/v1/checkpoints?directory={p.directory}"),
    "save_checkpoint": (
        "write",
        "POST",
        lambda p: f"/v1/checkpoints?directory={p.directory}&name=s{next(_numbers)}.pt",
        lambda p: {"content": b"bytes"},
    ),
    "get_best": ("read", "GET", lambda p: f"/v1/checkpoints/best?directory={p.directory}"),
    "get_latest": ("read", "GET", lambda p: f"/v1/checkpoints/latest?directory={p.directory}"),
    "get_best_content": ("read", "GET", lambda p: f"/v1/checkpoints/best/content?directory={p.directory}"),
    "head_best_content": ("read", "HEAD", lambda p: f"/v1/checkpoints/best/content?directory={p.directory}"),
    "get_latest_content": ("read", "GET", lambda p: f"/v1/checkpoints/latest/content?directory={p.directory}"),
    "head_latest_content": ("read", "HEAD", lambda p: f"/v1/checkpoints/latest/content?directory={p.directory}"),
    "get_best_file": ("read", "GET", lambda p: named_by(p, "best")),
    "head_best_file": ("read", "HEAD", lambda p: named_by(p, "best")),
    "get_latest_file": ("read", "GET", lambda p: named_by(p, "latest")),
    "head_latest_file": ("read", "HEAD", lambda p: named_by(p, "latest")),
    "get_checkpoint": ("read", "GET", lambda p: p.checkpoint()),
    "change_checkpoint": ("write", "PATCH", lambda p: p.checkpoint(), lambda p: body(tags=["good"])),
    "delete_checkpoint": ("delete", "DELETE", lambda p: p.checkpoint()),
    "restore_checkpoint": ("write", "POST", lambda p: f"{p.removed()}/restore"),
    "copy_checkpoint": (
        "write",
        "POST",
        lambda p: f"{p.checkpoint()}/copy",
        lambda p: body(directory=p.directory, name=f"k{next(_numbers)}.pt"),
    ),
    "get_chunks": ("read", "GET", lambda p: f"{p.checkpoint()}/chunks"),
    "get_tensors": ("read", "GET", tensors),
    "compare_checkpoints": ("read", "GET", lambda p: f"{p.checkpoint()}/comparison?against={p.checkpoint()[16:]}"),
    "get_content": ("read", "GET", lambda p: f"{p.checkpoint()}/content"),
    "head_content": ("read", "HEAD", lambda p: f"{p.checkpoint()}/content"),
    "get_file": ("read", "GET", named),
    "head_file": ("read", "HEAD", named),
    "get_batch": ("read", "GET", lambda p: f"{p.checkpoint()}/batch?files=0"),
    "make_link": ("read", "POST", lambda p: f"{p.checkpoint()}/links"),
    "reserve_upload": ("write", "POST", lambda p: "/v1/uploads", upload_body),
    "save_small": ("write", "POST", lambda p: "/v1/saves", small_body),
    "get_upload": ("write", "GET", lambda p: p.upload()[0]),
    "receive_range": ("write", "PUT", lambda p: "{}/files/{}".format(*p.upload()), lambda p: {"content": b"bytes"}),
    "receive_batch": ("write", "PUT", lambda p: f"{p.upload()[0]}/batch?files=0", lambda p: {"content": b"bytes"}),
    "commit_upload": ("write", "POST", lambda p: f"{p.upload(sent=True)[0]}/commit"),
    "list_uploads": ("read", "GET", lambda p: f"/v1/uploads?directory={p.directory}"),
    "declare_files": ("write", "POST", lambda p: f"{p.shared()}/files", lambda p: shared_body("g")),
    "rename_file": (
        "write",
        "POST",
        lambda p: f"{p.shared()}/rename",
        lambda p: body(writer="w", path="f", to="g"),
    ),
    "remove_file": ("write", "DELETE", lambda p: f"{p.shared()}/files/f?writer=w"),
    "be_ready": ("write", "POST", lambda p: f"{p.shared()}/ready", lambda p: body(writer="w")),
    "abandon_upload": ("write", "DELETE", lambda p: p.upload()[0]),
    "prune": ("delete", "POST", lambda p: "/v1/prune", lambda p: body(directory=p.directory)),
    "stream_events": ("read", "GET", lambda p: f"/v1/events?follow=false&prefix={p.directory}"),
    "list_audit": ("admin", "GET", lambda p: f"/v1/audit?prefix={p.directory}"),
}
FOR_EVERY_PLACE = {"get_info": ("read", "/v1/info"), "get_metrics": ("read", "/metrics")}
WITHOUT_A_TOKEN = {"live": "/health/live", "ready": "/health/ready"}
BY_SIGNATURE = {"follow_link", "head_link"}  # see test_links.py
NEEDS_READ_TOO = {"copy_checkpoint": {"write"}}
"""Routes that need the scope `read` beside their own: what a token may not read is not there for it."""
NAMED_IN_BODY = {"reserve_upload", "save_small", "prune"}
"""Routes that name the directory in the body. Without the scope, a request is refused before its body is read."""


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    with LiveServer(tmp_path_factory.mktemp("guarded") / "root", undo_window="1h") as live:
        yield live


@pytest.fixture(scope="module")
def admin(guarded):
    return bearer(mint(guarded.root, "admin"))


@pytest.fixture(scope="module")
def held(guarded):
    """One token per scope, all with the same prefix."""
    return {scope: bearer(mint(guarded.root, scope, prefix="team/a")) for scope in SCOPES}


@pytest.fixture(scope="module")
def inside(guarded, admin):
    return Place(guarded, admin, "team/a/runs")


@pytest.fixture(scope="module")
def outside(guarded, admin):
    return Place(guarded, admin, "team/ab")


def ask(operation, place, headers):
    """The answer to a request for something that exists, and whether it changed or revealed anything."""
    _, method, address, *sent = ROUTES[operation]
    place.checkpoint()  # so that there is a best and a latest
    target, said = address(place), sent[0](place) if sent else {}
    before = last_line(place)
    said["headers"] = {**said.get("headers", {}), **headers}
    answer = place.server.http.request(method, target, **said)
    return answer, last_line(place) != before


def last_line(place):
    return place.server.http.get("/v1/audit?page_size=1", headers=place.admin).json()["lines"][0]["id"]


def code(answer):
    return answer.json().get("code") if answer.content else None


def test_every_route_is_in_the_matrix():
    described = json.loads((PROJECT / "openapi.json").read_text())["paths"]
    operations = {operation["operationId"] for methods in described.values() for operation in methods.values()}
    assert operations == {*ROUTES, *FOR_EVERY_PLACE, *WITHOUT_A_TOKEN, *BY_SIGNATURE}


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("operation", ROUTES)
def test_inside_the_prefix_the_scope_decides(operation, scope, inside, held):
    answer, changed = ask(operation, inside, held[scope])
    if scope in {ROUTES[operation][0], "admin"} - NEEDS_READ_TOO.get(operation, set()):
        assert answer.status_code < 300, answer.text
    elif scope in NEEDS_READ_TOO.get(operation, set()):
        assert (answer.status_code, code(answer), changed) == (404, "checkpoint_not_found", False)
    else:
        assert answer.status_code == 403
        assert code(answer) in {"forbidden", None}
        assert not changed


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("operation", ROUTES)
def test_outside_the_prefix_nothing_is_there(operation, scope, outside, held):
    answer, changed = ask(operation, outside, held[scope])
    allowed = scope in {ROUTES[operation][0], "admin"}
    told_first = operation in {*NAMED_IN_BODY, "get_tree"} or "prefix=" in ROUTES[operation][2](outside)
    assert answer.status_code == (404 if allowed or not told_first else 403)
    assert not changed


@pytest.mark.parametrize("operation", ["set_policy", "change_checkpoint", "reserve_upload", "commit_upload", "prune"])
def test_no_body_is_looked_at_for_those_who_lack_the_scope(operation, inside, held):
    scope, method, address, *_ = ROUTES[operation]
    target = address(inside)
    for given, expected in ((scope, 422), ("read", 403)):
        headers = {**held[given], **JSON}
        assert inside.server.http.request(method, target, content=b"{", headers=headers).status_code == expected


@pytest.mark.parametrize("operation", ROUTES)
def test_what_is_out_of_reach_is_answered_as_what_does_not_exist(operation, guarded, outside, held):
    answer, _ = ask(operation, outside, held["admin"])
    _, method, address, *sent = ROUTES[operation]
    nowhere = Nowhere(guarded, outside.admin, "team/nowhere")
    said = sent[0](nowhere) if sent else {}
    said["headers"] = {**said.get("headers", {}), **held["admin"]}
    other = guarded.http.request(method, address(nowhere), **said)
    assert answer.status_code == other.status_code == 404
    if answer.content:
        assert without_names(answer) == without_names(other)


class Nowhere(Place):
    """A directory that does not exist, and unknown ids."""

    def checkpoint(self, **_):
        return f"/v1/checkpoints/{next(_numbers):032x}"

    def removed(self):
        return self.checkpoint()

    def upload(self, *, sent=False):
        return f"/v1/uploads/{next(_numbers):032x}", "u.pt"

    def shared(self):
        return self.upload()[0]


@pytest.fixture(autouse=True)
def _nowhere_has_no_names(monkeypatch):
    """Replace `named` and `tensors`, which create what they name, by addresses of files that do not exist."""
    for operation, make in (("get_file", named), ("head_file", named), ("get_tensors", tensors)):
        scope, method, _ = ROUTES[operation]
        rest = "tensors" if make is tensors else "files/f.pt"

        def address(place, make=make, rest=rest):
            return f"{place.checkpoint()}/{rest}" if isinstance(place, Nowhere) else make(place)

        monkeypatch.setitem(ROUTES, operation, (scope, method, address))


def without_names(answer):
    said = answer.json()
    for name in ("team/nowhere", "team/ab"):
        said = json.loads(json.dumps(said).replace(name, "DIRECTORY"))
    said.pop("request_id")
    said["detail"] = " ".join(word for word in said["detail"].split() if len(word) < 30)
    return said


@pytest.mark.parametrize("operation", [*ROUTES, *FOR_EVERY_PLACE])
def test_without_a_token_that_counts_no_route_says_anything(operation, guarded, inside):
    ended = mint(guarded.root, "admin", expires=timedelta(microseconds=1))
    revoked = mint(guarded.root, "admin")
    assert revoke(guarded.root, revoked[5:15])
    altered = revoked[:-1] + ("x" if revoked[-1] != "x" else "y")
    for headers in (
        {},
        bearer(ended),
        bearer(revoked),
        bearer(altered),
        bearer("wrong"),
        {"Authorization": "Basic eDp5"},
    ):
        if operation in FOR_EVERY_PLACE:
            answer, changed = guarded.http.get(FOR_EVERY_PLACE[operation][1], headers=headers), False
        else:
            answer, changed = ask(operation, inside, headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert not changed


@pytest.mark.parametrize("operation", FOR_EVERY_PLACE)
@pytest.mark.parametrize("scope", SCOPES)
def test_the_servers_own_routes_need_the_scope_only(operation, scope, guarded, held):
    needed, address = FOR_EVERY_PLACE[operation]
    answer = guarded.http.get(address, headers=held[scope])
    assert answer.status_code == (200 if scope in {needed, "admin"} else 403)


@pytest.mark.parametrize("operation", WITHOUT_A_TOKEN)
def test_whether_it_lives_is_told_to_anyone(operation, guarded):
    assert guarded.http.get(WITHOUT_A_TOKEN[operation]).status_code == 200
    assert guarded.http.get(WITHOUT_A_TOKEN[operation], headers=bearer("wrong")).status_code == 200


@pytest.mark.parametrize(
    "address", ["/v1", "/v1/", "/v1/nothing", "/v2/info", "/nothing", "/.env", "/v1/../v1/info", "//v1/info"]
)
def test_where_there_is_no_route_there_is_no_answer_either(address, guarded):
    assert guarded.http.get(address).status_code == 401


# lists and totals


def test_lists_show_what_is_within_reach_only(guarded, inside, outside, held):
    inside.checkpoint()
    outside.checkpoint()
    for prefix in ("", "?prefix=team", "?prefix=team/a"):
        found = guarded.http.get(f"/v1/directories{prefix}", headers=held["read"]).json()["directories"]
        assert [directory["directory"] for directory in found] == ["team/a/runs"]


def test_events_and_their_replay_tell_of_what_is_within_reach_only(guarded, inside, outside, held):
    outside.checkpoint()
    inside.checkpoint()
    headers = {**held["read"], "Last-Event-ID": "0"}
    said = guarded.http.get("/v1/events?follow=false", headers=headers).text
    assert "team/a/runs" in said
    assert "team/ab" not in said


def test_the_audit_tells_an_admin_of_a_prefix_of_that_only(guarded, inside, outside, held):
    outside.checkpoint()
    inside.checkpoint()
    found = guarded.http.get("/v1/audit?page_size=1000", headers=held["admin"]).json()["lines"]
    assert {line["directory"] for line in found} == {"team/a/runs"}


def test_figures_are_of_what_is_within_reach(guarded, inside, outside, held, admin):
    inside.checkpoint()
    outside.checkpoint()
    whole, part = (guarded.http.get("/metrics", headers=headers).text for headers in (admin, held["read"]))
    assert "holdfast_directories 2.0" in whole
    assert "holdfast_directories 1.0" in part
    assert "holdfast_free_bytes" in whole
    assert "holdfast_free_bytes" not in part
    assert guarded.http.get("/v1/info", headers=held["read"]).json()["root"] is None
    assert guarded.http.get("/v1/info", headers=admin).json()["root"] == str(guarded.root.resolve())


def test_pruning_a_prefix_touches_what_is_within_reach_only(guarded, inside, outside, held):
    inside.checkpoint()
    outside.checkpoint()
    for prefix in ("", "team"):
        answer = guarded.http.post("/v1/prune", json={"prefix": prefix, "dry_run": True}, headers=held["delete"])
        assert [found["directory"] for found in answer.json()["directories"]] == ["team/a/runs"]
    assert guarded.http.post("/v1/prune", json={"prefix": "team/ab"}, headers=held["delete"]).status_code == 404


def test_a_stream_of_events_ends_when_its_token_is_revoked(guarded, inside):
    token = mint(guarded.root, "read", prefix="team/a")
    with guarded.http.stream("GET", "/v1/events", headers=bearer(token)) as answer:
        assert answer.status_code == 200
        assert revoke(guarded.root, token[5:15])
        inside.checkpoint()  # wakes the stream
        assert "checkpoint.saved" not in "".join(answer.iter_text())
