"""The storage page: every number matches the saves and removals that the token may see."""

import html
import json
import re
import socket
from contextlib import closing
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from app.bootstrap import open_root
from app.core.models import Save, UploadFile
from app.dashboard.pages.storage import parts_of
from app.dashboard.render import formatting
from app.service.query.usage import Disk
from app.settings import Settings
from tests.app.api.test_uploads import begin, commit, declared, put, send
from tests.support.live import LiveServer, eventually
from tests.support.shared_uploads import reserve
from tests.support.tokens import bearer, mint

HTML = {"Accept": "text/html"}
QUOTAS = {"": {"max_bytes": "1GB"}, "quota/a": {"max_bytes": 4000, "max_checkpoints": 8}, "quota/b": {"max_bytes": 1}}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server with tokens, quotas and an undo window; its own client has every scope."""
    root = tmp_path_factory.mktemp("storage") / "root"
    with LiveServer(root, quotas=json.dumps(QUOTAS), undo_window="1h") as live:
        live.http.headers.update(bearer(mint(root, "admin")))
        yield live


@pytest.fixture
def browser(server):
    """Make browsers that are signed in with a read token for a prefix."""
    made = []

    def sign_in(prefix=""):
        made.append(client := httpx.Client(base_url=server.url, headers=HTML))
        client.post("/sign-in", content=f"token={mint(server.root, 'read', prefix=prefix)}")
        return client

    yield sign_in
    for client in made:
        client.close()


def storage(browser):
    answer = browser.get("/storage")
    assert answer.status_code == 200, answer.text
    return answer.text


def rows(page, attribute):
    """Return the text of rows by the value of an attribute."""
    found = re.findall(rf'<(tr|li)[^>]* data-{attribute}="([^"]*)"[^>]*>(.*?)</\1>', page, re.DOTALL)
    return {key: " ".join(html.unescape(re.sub(r"<[^>]+>", " ", inner)).split()) for _, key, inner in found}


def removed(page, because):
    """Return bytes and count of removals for a reason: in the last day, week and month, and in total."""
    (row,) = re.findall(rf'<tr data-because="{because}">(.*?)</tr>', page, re.DOTALL)
    return [(int(size), int(count)) for size, count in re.findall(r'data-bytes="(\d+)" data-count="(\d+)"', row)]


def trash(page):
    (found,) = re.findall(r'id="storage-trash" data-bytes="(\d+)" data-count="(\d+)"', page)
    return tuple(map(int, found))


def series(browser, **query):
    answer = browser.get("/storage/series", params=query, headers={"Accept": "application/json"})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_directories_are_sorted_by_size(server, browser):
    for name, sizes in (("held/small", [20]), ("held/large", [1500, 1500]), ("held/middle", [980])):
        for size in sizes:
            server.save(name, b"x" * size)
    page = storage(browser("held"))
    assert list(rows(page, "directory").items()) == [
        ("held/large", "held/large 2 2.9 KiB 75.0 %"),
        ("held/middle", "held/middle 1 980 B 24.5 %"),
        ("held/small", "held/small 1 20 B 0.5 %"),
    ]
    assert '<a href="/directories/held/large">' in page
    assert '<rect width="75.0" height="10"/>' in page
    assert "<b>3.9 KiB</b> in 4 checkpoints in <code>held</code>" in page


def test_removals_are_shown_by_reason_and_with_the_end_of_their_undo_window(server, browser):
    team = browser("gone")
    assert "Nothing has been removed yet." in storage(team)
    for size in (100, 20, 3):
        server.save("gone/pruned", b"x" * size, max_checkpoints=1, max_best_checkpoints=0)
    for size in (7, 8):
        server.save("gone/replaced", b"x" * size, name="a.pt")
    deleted = server.save("gone/deleted", b"x" * 5000)
    server.http.delete(f"/v1/checkpoints/{deleted['id']}").raise_for_status()
    page = storage(team)
    assert removed(page, "pruned") == [(120, 2)] * 4
    assert removed(page, "replaced") == [(7, 1)] * 4
    assert removed(page, "deleted") == [(5000, 1)] * 4
    assert 'data-because="lost"' not in page
    assert trash(page) == (5127, 4)
    assert re.search(r"the first until <time datetime=\"([^\"]+)\"", page)[1] > datetime.now(UTC).isoformat()
    server.http.post(f"/v1/checkpoints/{deleted['id']}/restore").raise_for_status()
    page = storage(team)
    assert trash(page) == (127, 3)
    assert 'data-because="deleted"' not in page
    assert series(team)["directories"][0] | {"size_bytes": []} == {"name": "gone/deleted", "size_bytes": []}


def test_without_an_undo_window_no_restoration_is_offered(make_server):
    live = make_server()
    live.http.delete(f"/v1/checkpoints/{live.save('a', b'bytes')['id']}").raise_for_status()
    live.wait_until_freed()
    page = live.http.get("/storage", headers=HTML).text
    assert trash(page) == (0, 0)
    assert "HOLDFAST_UNDO_WINDOW" in page
    assert "about to be freed" not in page
    assert "of the disk" in page
    assert "There are no checkpoints." in page
    assert series(live.http)["directories"][0]["size_bytes"][-1] == 0


def test_the_series_add_up_to_the_current_sizes(server, browser):
    for number in range(11):
        server.save(f"course/{number:02}", b"x" * (100 + number))
    first = server.save("course/10", b"x" * 9)
    server.http.delete(f"/v1/checkpoints/{first['id']}").raise_for_status()
    team = browser("course")
    for span in ("day", "week", "month", "all"):
        found = series(team, span=span)
        assert [line["name"] for line in found["directories"]] == [f"course/{number:02}" for number in range(10, 2, -1)]
        assert [line["size_bytes"][-1] for line in found["directories"]] == list(range(110, 102, -1))
        assert found["others"][-1] == 100 + 101 + 102
        assert found["at"] == sorted(found["at"])
        assert (
            {len(line["size_bytes"]) for line in found["directories"]} == {len(found["at"])} == {len(found["others"])}
        )
        assert len(found["at"]) <= 500
        assert found["directories"][0]["size_bytes"][0] == 0
    server.save("course/02", b"x" * 1000)
    assert series(team)["directories"][0]["name"] == "course/02"  # the earlier response is not cached


def test_a_token_of_a_prefix_sees_its_own_alone(server, browser):
    for directory in ("walls/a", "walls/ab", "wallsb"):
        server.save(directory, b"x" * 50)
        begin(server, directory, name=f"under-way-{directory.replace('/', '-')}.pt")
    server.http.delete(f"/v1/checkpoints/{server.save('walls/ab', b'bytes')['id']}").raise_for_status()
    page = storage(browser("walls/a"))
    assert list(rows(page, "directory")) == ["walls/a"]
    assert [formatting.split()[0] for formatting in rows(page, "upload").values()] == ["walls/a"]
    assert trash(page) == (0, 0)
    assert "Nothing has been removed yet." in page
    assert "of the disk" not in page
    assert "reserved" not in page
    assert "Quotas" not in page
    for other in ("walls/ab", "wallsb", "quota/"):
        assert other not in page
    found = series(browser("walls/a"))
    assert [line["name"] for line in found["directories"]] == ["walls/a"]
    assert found["others"][-1] == 0
    everything = storage(browser())
    assert "of the disk" in everything
    assert {"walls/a", "walls/ab", "wallsb"} <= set(rows(everything, "directory"))


def test_quotas_stand_with_their_use(server, browser):
    for _ in range(2):
        server.save("quota/a/run", b"x" * 1500)
    assert rows(storage(browser("quota/a")), "quota") == {"quota/a": "quota/a 2.9 KiB of 3.9 KiB 2 of 8"}
    page = storage(browser())
    assert list(rows(page, "quota")) == ["", "quota/a", "quota/b"]
    assert re.search(r'<meter aria-label="bytes of quota/a" [^>]*max="4000" [^>]*value="3000">', page)


def test_the_progress_of_uploads_is_shown(server, browser, directory):
    team = browser(directory)
    assert "There are no open uploads." in storage(team)
    upload = begin(server, directory, declared(), writer="node1:4711", name="coming.pt")
    assert re.search(r'<progress aria-label="[^"]+" max="10240" value="0">', storage(team))
    put(server, upload, (bytes(range(256)) * 40)[:4000])
    page = storage(team)
    assert re.search(rf'<progress aria-label="{directory}/coming.pt" max="10240" value="4000">', html.unescape(page))
    assert f'href="/directories/{directory}"' not in page, "there is none yet"
    formatting = rows(page, "upload")[upload["id"]]
    assert "3.9 KiB of 10.0 KiB, 39.1 % receiving from node1:4711 by token" in formatting
    assert "lease ends in 23 h" in formatting
    send(server, upload | {"missing": server.http.get(f"/v1/uploads/{upload['id']}").json()["missing"]})
    commit(server, upload)
    assert rows(storage(team), "upload") == {}


def test_the_writers_of_a_shared_upload_are_shown(server, browser, directory):
    team = browser(directory)
    shared = reserve(server.http, directory, writers=["rank-0", "rank-1", "rank <2>"], attempt=1)
    shared.put("rank-0", {"a": b"a" * 2000})
    shared.ready("rank-0")
    shared.declare("rank-1", {"b": b"b" * 3000, "c": b"c" * 1000})
    page = storage(team)
    assert "attempt 1; waits for rank-1 , rank <2>" in rows_of_upload(page, shared.id)
    writers = rows(page, "writer")
    assert writers["rank-0"].startswith("rank-0 ready 1 file, 2.0 KiB")
    assert writers["rank-1"].startswith("rank-1 not ready 2 files, 3.9 KiB, 3.9 KiB missing")
    server.http.delete(shared.url).raise_for_status()
    assert rows(storage(team), "writer") == {}


def rows_of_upload(page, upload_id):
    """Return the text of an upload and its writers."""
    part = page.partition(f'data-upload="{upload_id}"')[2].partition("</section>")[0]
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", part)).split())


def test_an_upload_of_unknown_size_has_no_end(server, browser, directory):
    team = browser(directory)
    target = f"POST /v1/checkpoints?directory={directory} HTTP/1.1"
    head = [target, "Host: localhost", f"Authorization: {server.http.headers['Authorization']}"]
    with socket.create_connection((server.http.base_url.host, server.http.base_url.port)) as wire:
        wire.sendall("\r\n".join([*head, "Transfer-Encoding: chunked", "", "400", "x" * 1024, ""]).encode())
        assert eventually(lambda: "total size unknown" in storage(team))
        (bar,) = re.findall(r"<progress[^>]*>", storage(team))
        assert "max=" not in bar
        assert "value=" not in bar


def test_the_progress_of_an_unchecked_upload_is_unknown(tmp_path):
    settings = Settings(root=tmp_path / "root")
    with closing(open_root(settings)) as service:
        service.reservations.reserve(Save(directory="a", files=(UploadFile("x.pt", 10),), name="x.pt"))
        (arrival,), count = service.usage.uploads("", 5)
        assert (count, arrival.arrived_bytes, arrival.declared_bytes, arrival.share) == (1, 0, 10, 0.0)
        assert arrival.is_moving
    with closing(open_root(settings)) as service:
        (arrival,), _ = service.usage.uploads("", 5)
        assert (arrival.arrived_bytes, arrival.declared_bytes, arrival.share) == (None, 10, None)
        assert not arrival.is_moving
        assert service.usage.uploads("b", 5) == ([], 0)


def test_without_a_session_nothing_is_shown(server):
    with httpx.Client(base_url=server.url) as visitor:
        assert visitor.get("/storage", headers=HTML).headers["location"] == "/sign-in?to=/storage"
        assert visitor.get("/storage/series").status_code == 401
        assert visitor.get("/storage/series", headers=bearer(mint(server.root, "read"))).status_code == 401


def test_the_page_obeys_its_own_policy(browser):
    client = browser()
    page = storage(client)
    assert " style=" not in page
    assert re.findall(r"<script(?![^>]* src=)", page) == []
    assert client.get("/storage?span=year").status_code == 422
    assert client.get("/storage/series?span=year").status_code == 422
    for address in re.findall(r'(?:src|href)="(/static/[^"]+)"', page):
        assert client.get(address).status_code == 200, address


@pytest.mark.parametrize(
    ("disk", "widths"),
    [
        pytest.param(Disk(1000, 600, 100, 200, 50), [20, 5, 15, 50, 10], id="ordinary"),
        pytest.param(Disk(1000, 600, 100, 900, 900), [40, 0, 0, 50, 10], id="blocks are shared"),
        pytest.param(Disk(1000, 60, 100, 200, 50), [20, 5, 69, 0, 6], id="the reserve is used"),
        pytest.param(Disk(0, 0, 100, 0, 0), [0, 0, 0, 0, 0], id="no disk at all"),
    ],
)
def test_the_parts_of_a_disk_fill_it(disk, widths):
    parts = parts_of(disk)
    assert [part.width for part in parts] == widths
    assert [part.start for part in parts] == [sum(widths[:index]) for index in range(5)]


@pytest.mark.parametrize(
    ("share", "said"),
    [(0, "0 %"), (0.0001, "< 0.1 %"), (0.5, "50.0 %"), (0.9994, "> 99.9 %"), (1, "100 %"), (1.5, "150.0 %")],
)
def test_shares_in_words(share, said):
    assert formatting.percent(share) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(-5, "now"), (0.5, "now"), (59, "in 59 s"), (60, "in 1 min"), (7300, "in 2 h"), (86400 * 3, "in 3 d")],
)
def test_times_to_come_in_words(seconds, said):
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert formatting.until(now + timedelta(seconds=seconds), now) == said
    assert formatting.until(now + timedelta(days=90), now) == "2026-04-01"
