"""Agreement of catalog and root: lost records, stale catalogs or those of another root, folders that are no roots."""

import errno
import os
import re
import shutil
import sqlite3
from contextlib import closing

import pytest

from app.bootstrap import inspect_root, open_root, reindex_root
from app.core.errors import CatalogUnusable, RootMissing, RootUnusable
from app.settings import Settings
from app.storage.local.disk import linux
from app.storage.local.disk.tree import Tree
from app.storage.local.store import LocalStorage
from tests.data.samples import below

LOSSES = {
    "everything of the root's own": ["."],
    "format": ["format.json"],
    "catalog": ["catalog.db"],
    "format and catalog": ["format.json", "catalog.db"],
    "mark": ["opened"],
    "mark and catalog": ["opened", "catalog.db"],
}


def own(root):
    return root / ".holdfast"


def lose(root, names):
    for name in names:
        path = own(root) / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def saved_by(server, directory, numbers):
    return [server.save(directory, b"%d" % number, epoch=number, metric=number) for number in numbers]


def order(server, directory):
    """Read epochs and positions, newest first, and the latest and the best."""
    asked = {"directory": directory}
    rows = server.http.get("/v1/checkpoints", params=asked).json()["checkpoints"]
    first = [server.http.get(f"/v1/checkpoints/{which}", params=asked).json()["epoch"] for which in ("latest", "best")]
    return [(row["epoch"], row["saved_after"], row["sequence"]) for row in rows], first


def put_back(root, old):
    """Put an earlier catalog in the place of the present one."""
    for path in own(root).glob("catalog.db*"):
        path.unlink()
    shutil.copy(old, own(root) / "catalog.db")


def copied(root, place):
    """Copy the catalog as a backup of a running server does."""
    with closing(sqlite3.connect(own(root) / "catalog.db")) as sql:
        sql.execute("VACUUM INTO ?", [str(place)])
    return place


@pytest.mark.parametrize("lost", LOSSES.values(), ids=LOSSES)
def test_whatever_the_root_loses_of_its_own_the_checkpoints_are_there_and_saves_go_on(own_server, lost):
    saved_by(own_server, "runs/a", range(3))
    own_server.save("runs/a", b"late", epoch=9, saved_after=1)
    own_server.save("runs/b/deep", b"folder", epoch=1)
    before = order(own_server, "runs/a")
    assert own_server.stop() == 0
    lose(own_server.root, lost)
    own_server.start()
    assert order(own_server, "runs/a") == before
    assert own_server.save("runs/a", b"replaces", epoch=2)["sequence"] == 5
    own_server.restart()
    assert own_server.log().count("is rebuilt from the files") == ("catalog.db" in lost or lost == ["."])


@pytest.mark.parametrize("in_one_opening", [False, True], ids=["of an earlier start", "of the same start"])
@pytest.mark.parametrize("since", ["a new name", "the same name", "a new directory", "the same content"])
def test_an_older_catalog_is_made_anew_before_anything_is_built_on_it(own_server, tmp_path, in_one_opening, since):
    saved_by(own_server, "runs/a", range(3))
    if not in_one_opening:
        own_server.restart()
        own_server.restart()
    old = copied(own_server.root, tmp_path / "old.db")
    if not in_one_opening:
        own_server.restart()
    directory = "runs/new" if since == "a new directory" else "runs/a"
    epoch, data = {"a new name": (3, b"3"), "the same content": (1, b"1")}.get(since, (1, b"other"))
    last = own_server.save(directory, data, epoch=epoch, metric=7)
    before = [order(own_server, name) for name in ("runs/a", directory)]
    assert own_server.stop() == 0
    put_back(own_server.root, old)
    own_server.start()
    assert [order(own_server, name) for name in ("runs/a", directory)] == before
    assert own_server.save(directory, b"next", epoch=8)["sequence"] == last["sequence"] + 1
    own_server.restart()
    assert own_server.log().count("is rebuilt from the files") == 1


def test_a_catalog_that_is_as_new_as_the_files_is_kept_after_every_kind_of_change(own_server):
    saved = saved_by(own_server, "runs/a", range(6))
    own_server.http.patch(f"/v1/checkpoints/{saved[0]['id']}", json={"pinned": True}).raise_for_status()
    own_server.save("runs/a", b"1", epoch=1)
    own_server.save("runs/a", b"replaced", epoch=2)
    own_server.http.delete(f"/v1/checkpoints/{saved[5]['id']}").raise_for_status()
    own_server.http.put("/v1/directories/planned", json={"max_checkpoints": 2}).raise_for_status()
    own_server.save("runs/a", b"pruned", epoch=9, max_checkpoints=1, max_best_checkpoints=0)
    for end in (own_server.stop, own_server.kill):
        end()
        own_server.start()
    assert "is rebuilt from the files" not in own_server.log()


def test_what_an_older_catalog_calls_removed_and_was_restored_since_stays(make_server, tmp_path):
    server = make_server(undo_window="1h")
    (saved,) = saved_by(server, "runs/a", [1])
    server.save("runs/a", b"2", epoch=2)
    server.http.delete(f"/v1/checkpoints/{saved['id']}").raise_for_status()
    old = copied(server.root, tmp_path / "old.db")
    server.http.post(f"/v1/checkpoints/{saved['id']}/restore").raise_for_status()
    server.restart()
    server.stop()
    put_back(server.root, old)
    server.start()
    assert sorted(server.names("runs/a")) == ["checkpoint_epoch_0001.pt", "checkpoint_epoch_0002.pt"]
    assert server.http.get(f"/v1/checkpoints/{saved['id']}/content").content == b"1"


@pytest.mark.parametrize("is_older", [False, True], ids=["a lost catalog", "an older catalog"])
def test_what_lies_in_the_trash_is_known_to_a_new_catalog(make_server, tmp_path, is_older):
    server = make_server(undo_window="1h")
    deleted, replaced = saved_by(server, "runs/a", [1, 2])
    old = copied(server.root, tmp_path / "old.db")
    server.save("runs/a", b"new", epoch=2)
    pruned = server.save("runs/b", b"old", epoch=1, max_checkpoints=1)
    server.save("runs/b", b"new", epoch=2, max_checkpoints=1)
    server.http.delete(f"/v1/checkpoints/{deleted['id']}").raise_for_status()
    assert server.stop() == 0
    asked = {row["id"]: row for row in (deleted, replaced, pruned)}
    for path in own(server.root).glob("catalog.db*"):
        path.unlink()
    if is_older:
        shutil.copy(old, own(server.root) / "catalog.db")
    server.start()
    found = {id_: server.http.get(f"/v1/checkpoints/{id_}").json() for id_ in asked}
    assert [found[row["id"]]["removed_because"] for row in (deleted, replaced, pruned)] == [
        "deleted",
        "replaced",
        "pruned",
    ]
    assert all(row["restorable"] for row in found.values())
    server.http.post(f"/v1/checkpoints/{deleted['id']}/restore").raise_for_status()
    assert server.http.get(f"/v1/checkpoints/{deleted['id']}/content").content == b"1"
    assert server.save("runs/a", b"x", epoch=5)["sequence"] == 4


def test_what_lies_in_the_trash_goes_when_its_time_is_over(make_server, tmp_path):
    root = tmp_path / "root"
    first = make_server(root, undo_window="1h")
    (saved,) = saved_by(first, "runs/a", [1])
    first.http.delete(f"/v1/checkpoints/{saved['id']}").raise_for_status()
    assert first.stop() == 0
    lose(root, ["catalog.db"])
    with closing(open_root(Settings(root=root))):
        assert list((own(root) / "trash").iterdir()) == []


def filled(make_server, root, directory, **settings):
    server = make_server(root, **settings)
    server.save(directory, b"bytes", epoch=1)
    assert server.stop() == 0
    return root


def apart_from_catalog(root):
    return {path: data for path, data in below(root).items() if "catalog.db" not in path and "lock" not in path}


def test_the_catalog_of_another_root_is_refused_and_nothing_is_changed(make_server, tmp_path):
    one, other = (filled(make_server, tmp_path / name, f"runs/{name}") for name in ("one", "other"))
    put_back(one, own(other) / "catalog.db")
    before = apart_from_catalog(one)
    for act in (open_root, reindex_root):
        with pytest.raises(CatalogUnusable, match=r"catalog of another root.*mv \S+catalog.db \S+catalog.db.other"):
            act(Settings(root=one))
    assert apart_from_catalog(one) == before
    (own(one) / "catalog.db").rename(own(one) / "catalog.db.other")
    with closing(open_root(Settings(root=one))) as service, service.context.catalog.reading() as session:
        assert session.checkpoints.live_names_by_directory() == {"runs/one": {"checkpoint_epoch_0001.pt"}}


@pytest.mark.parametrize("instead", ["nothing", "another root", "another root without its mark"])
def test_a_catalog_kept_elsewhere_is_not_used_for_another_root(make_server, tmp_path, instead):
    url = f"sqlite:///{tmp_path}/elsewhere.db"
    root = filled(make_server, tmp_path / "root", "runs/a", database_url=url)
    root.rename(tmp_path / "unmounted")
    root.mkdir()
    if instead != "nothing":
        filled(make_server, root, "runs/other")
    if instead == "another root without its mark":
        (own(root) / "opened").unlink()
    with pytest.raises(CatalogUnusable, match=r"another root|is its disk mounted"):
        open_root(Settings(root=root, database_url=url))
    shutil.rmtree(root)
    (tmp_path / "unmounted").rename(root)
    with closing(open_root(Settings(root=root, database_url=url))) as service:
        assert service.lookups.latest("runs/a").facts.epoch == 1


def test_a_copied_root_goes_its_own_way(make_server, tmp_path):
    root = filled(make_server, tmp_path / "root", "runs/a")
    copy = shutil.copytree(root, tmp_path / "copy")
    for place, count in ((root, 2), (copy, 3), (root, 4)):
        server = make_server(place)
        for epoch in range(2, count + 1):
            server.save("runs/a", b"%d" % epoch, epoch=epoch)
        assert server.stop() == 0
        assert "is rebuilt from the files" not in server.log()


def test_reindex_makes_no_root_of_what_is_none(tmp_path):
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "model.pt").write_bytes(b"weights")
    empty = tmp_path / "empty"
    empty.mkdir()
    before = below(tmp_path)
    for place in (tmp_path / "typo", foreign, empty):
        with pytest.raises(RootMissing, match=r"no root at"):
            reindex_root(Settings(root=place))
    assert below(tmp_path) == before


def test_a_folder_around_or_in_a_root_becomes_no_root(make_server, tmp_path):
    (tmp_path / "all").mkdir()
    root = filled(make_server, tmp_path / "all" / "root", "runs/a")
    before = below(tmp_path / "all")
    for place in (tmp_path / "all", root / "runs", root / "runs" / "a"):
        for act in (open_root, reindex_root):
            with pytest.raises(RootUnusable, match=r"root"):
                act(Settings(root=place))
    assert below(tmp_path / "all") == before


def test_a_folder_of_others_becomes_a_root_and_that_is_said(tmp_path, caplog):
    (tmp_path / "model.pt").write_bytes(b"weights")
    open_root(Settings(root=tmp_path)).close()
    assert "becomes a root" in caplog.text
    open_root(Settings(root=tmp_path)).close()
    assert caplog.text.count("becomes a root") == 1
    assert inspect_root(Settings(root=tmp_path)) is not None


def refuse_links(*_, **__):
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


def test_where_a_file_has_one_name_only_it_is_renamed_and_replaces_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", refuse_links)
    LocalStorage(tmp_path / "root", version="1").close()
    with closing(Tree(tmp_path / "root")) as tree:
        tree.write(("new",), b"new")
        tree.write(("ours", "free"), b"")
        tree.move_file_to_free_name(("new",), ("a", "b"))
        assert (tree.read(("a", "b")), tree.stat(("new",))) == (b"new", None)
        with pytest.raises(FileExistsError):
            tree.move_file_to_free_name(("a", "b"), ("ours", "free"))
        assert (tree.read(("a", "b")), tree.read(("ours", "free"))) == (b"new", b"")


def test_a_file_system_that_can_do_neither_is_refused_in_words(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", refuse_links)

    def refuse(*_, **__):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(linux, "rename_to_free_name", refuse)
    with pytest.raises(RootUnusable, match=r"file system .* choose a root on another one"):
        LocalStorage(tmp_path / "root", version="1")


# the id of a server


def test_a_server_has_one_id_after_restarts_and_a_reindex_and_says_it_in_every_answer(make_server, tmp_path):
    found = []
    for names in ([], ["opened"], ["catalog.db"], ["format.json", "catalog.db"]):
        lose(tmp_path / "root", names)
        live = make_server(tmp_path / "root", admin_token="secret-0123456789" if names else "")
        answers = [live.http.get(path) for path in ("/v1/info", "/health/live", "/v1/nothing", "/")]
        found += [answer.headers["Holdfast-Server-Id"] for answer in answers]
        live.__exit__(None, None, None)
        if not names:
            found.append(answers[0].json()["server_id"])
    assert len(set(found)) == 1
    assert re.fullmatch(r"[0-9a-f]{32}", found[0])


def test_two_roots_are_two_servers(make_server):
    first, second = (make_server().http.get("/v1/info").json()["server_id"] for _ in range(2))
    assert first != second
