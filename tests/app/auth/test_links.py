"""Signed links: the file they give without a token, and the ways in which they become invalid."""

from datetime import timedelta

import pytest

from app.auth import links
from app.bootstrap import inspect_root, utc_now
from app.settings import Settings
from tests.support.live import LiveServer
from tests.support.tokens import bearer, mint, revoke


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    with LiveServer(tmp_path_factory.mktemp("guarded") / "root") as live:
        live.admin = bearer(mint(live.root, "admin"))
        yield live


@pytest.fixture
def saved(guarded, directory):
    query = {"directory": f"team/{directory}", "name": "model.pt"}
    return guarded.http.post("/v1/checkpoints", params=query, content=b"bytes" * 100, headers=guarded.admin).json()


def link_to(server, checkpoint, headers, **query):
    answer = server.http.post(f"/v1/checkpoints/{checkpoint['id']}/links", params=query, headers=headers)
    assert answer.status_code == 201, answer.text
    return answer.json()["url"]


def refused(answer):
    return answer.status_code, answer.json()["code"]


def test_a_link_gives_one_file_to_anyone(guarded, saved):
    url = link_to(guarded, saved, guarded.admin)
    answer = guarded.http.get(url)
    assert answer.content == b"bytes" * 100
    assert answer.headers["content-disposition"].endswith("model.pt")
    assert answer.headers["etag"] == f'"{saved["files"][0]["digest"]}"'
    assert guarded.http.get(url, headers={"Range": "bytes=0-4"}).content == b"bytes"
    assert guarded.http.head(url).headers["content-length"] == "500"


def test_a_link_may_be_followed_from_a_page_of_others(guarded, saved):
    url = link_to(guarded, saved, guarded.admin)
    followed = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert guarded.http.get(url, headers=followed).status_code == 200
    fetched = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"}
    assert refused(guarded.http.get(url, headers=fetched)) == (403, "cross_site")


def test_a_link_dies_with_its_token(guarded, saved):
    token = mint(guarded.root, "read", prefix="team")
    url = link_to(guarded, saved, bearer(token))
    assert guarded.http.get(url).status_code == 200
    assert revoke(guarded.root, token[5:15])
    assert refused(guarded.http.get(url)) == (404, "link_invalid")


def test_a_link_is_not_good_for_longer_than_its_token(guarded, saved):
    token = mint(guarded.root, "read", expires=timedelta(minutes=5))
    answer = guarded.http.post(f"/v1/checkpoints/{saved['id']}/links?lifetime_s=3600", headers=bearer(token)).json()
    until = guarded.http.get("/v1/info", headers=bearer(token)).json()["token"]["expires_at"]
    assert answer["expires_at"][:19] == until[:19]


def test_a_link_has_its_time(tmp_path):
    clock = tmp_path / "clock"
    clock.write_text("0")
    with LiveServer(tmp_path / "root", clock=clock) as server:
        admin = bearer(mint(tmp_path / "root", "admin"))
        query = "directory=runs/a&name=model.pt"
        saved = server.http.post(f"/v1/checkpoints?{query}", content=b"bytes", headers=admin).json()
        short, usual = link_to(server, saved, admin, lifetime_s=60), link_to(server, saved, admin)
        for passed_s, counts in ((50, (True, True)), (70, (False, True)), (890, (False, True)), (910, (False, False))):
            clock.write_text(str(passed_s))
            assert tuple(server.http.get(url).status_code == 200 for url in (short, usual)) == counts, passed_s


def test_a_link_ends_when_the_checkpoint_is_removed(guarded, saved):
    url = link_to(guarded, saved, guarded.admin)
    guarded.http.delete(f"/v1/checkpoints/{saved['id']}", headers=guarded.admin).raise_for_status()
    assert refused(guarded.http.get(url)) == (410, "checkpoint_removed")


def test_a_new_checkpoint_of_the_same_name_is_not_what_the_link_was_made_for(guarded, saved):
    url = link_to(guarded, saved, guarded.admin)
    query = {"directory": saved["directory"], "name": "model.pt"}
    guarded.http.post("/v1/checkpoints", params=query, content=b"other", headers=guarded.admin).raise_for_status()
    assert refused(guarded.http.get(url)) == (410, "checkpoint_removed")


@pytest.mark.parametrize("drop", [False, True], ids=["kept", "dropped"])
def test_after_a_rotation_earlier_links_are_good_unless_their_key_is_dropped(guarded, saved, drop):
    url = link_to(guarded, saved, guarded.admin)
    parts = inspect_root(Settings(root=guarded.root))
    links.rotate(parts.catalog, utc_now(), drop=drop)
    parts.catalog.close()
    parts.storage.close()
    assert guarded.http.get(url).status_code == (404 if drop else 200)
    newer = link_to(guarded, saved, guarded.admin)
    assert newer.split(".")[-2] != url.split(".")[-2]
    assert guarded.http.get(newer).status_code == 200


@pytest.mark.parametrize(
    "text", ["x", "hfsl_", "hfsl_.a.b", "hfsl_e30.x.", "%00", "hfsl_" + "A" * 4000, "é", "a.b.c.d"]
)
def test_what_is_no_link_is_refused(guarded, text):
    assert refused(guarded.http.get(f"/v1/links/{text}")) == (404, "link_invalid")


def test_a_link_names_a_file_where_there_are_several(guarded, directory):
    files = [{"path": "a.bin", "size_bytes": 1}, {"path": "b/c.bin", "size_bytes": 1}]
    body = {"directory": f"team/{directory}", "name": "checkpoint-500", "files": files}
    upload = guarded.http.post("/v1/uploads", json=body, headers=guarded.admin).json()
    for number, missing in enumerate(upload["missing"]):
        guarded.http.put(missing["url"], content=b"%d" % number, headers=guarded.admin).raise_for_status()
    done = guarded.http.post(f"/v1/uploads/{upload['id']}/commit", headers=guarded.admin).json()
    assert guarded.http.get(link_to(guarded, done, guarded.admin, file="b/c.bin")).content == b"1"
    address = f"/v1/checkpoints/{done['id']}/links"
    assert refused(guarded.http.post(address, headers=guarded.admin)) == (409, "several_files")
    assert refused(guarded.http.post(f"{address}?file=x", headers=guarded.admin)) == (404, "file_not_found")


def test_without_tokens_links_are_good_until_the_first_token(make_server):
    live = make_server()
    url = link_to(live, live.save("runs/a"), {})
    assert live.http.get(url).status_code == 200
    mint(live.root, "read")
    assert refused(live.http.get(url)) == (404, "link_invalid")
