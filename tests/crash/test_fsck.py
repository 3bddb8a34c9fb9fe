"""fsck on roots that were damaged: it names every damage, repairs what is certain, and touches nothing else."""

import itertools
import json
import os
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from stat import S_ISDIR, S_ISREG
from types import SimpleNamespace

import httpx
import pytest

from app.__main__ import main
from app.catalog import Catalog, default_url
from app.core.models import Manifest
from app.storage import manifest as manifests
from app.storage.local.store import LocalStorage
from tests.crash.harness.rounds import rounds
from tests.crash.roots.damages import OF_DIRECTORIES, PASSING, QUICK, Damaged, Victim
from tests.support.deadlines import DEADLINE_S
from tests.support.live import PROJECT, LiveServer

DIRECTORIES = ("runs/a", "runs/a/deeper", "runs/b/checkpoints", "other")
AT_ONCE = 8


def save_folder(server, directory, name, contents, **more):
    files = [{"path": path, "size_bytes": len(data)} for path, data in contents.items()]
    body = {"directory": directory, "name": name, "files": files, **more}
    upload = server.http.post("/v1/uploads", json=body).raise_for_status().json()
    for wanted in upload["missing"]:
        part = contents[wanted["file"]][wanted["offset"] :][: wanted["length"]]
        server.http.put(wanted["url"], content=part).raise_for_status()
    server.http.post(f"/v1/uploads/{upload['id']}/commit").raise_for_status()


def fill(server, rng):
    """Checkpoints of all kinds in several directories, some of them replaced, pinned and removed."""
    for directory, number in itertools.product(DIRECTORIES, range(9)):
        data = rng.randbytes(rng.choice([1, 700, 20_000]))
        metric = {1: "NaN", 2: "Infinity"}.get(number, number / 7)
        facts = {"epoch": number, "tags": f"tag-{number}", "metadata": '{"lr": 0.5, "note": "ä"}'}
        saved = server.save(directory, data, metric=metric, **facts)
        if number in {3, 4}:
            server.http.patch(f"/v1/checkpoints/{saved['id']}", json={"pinned": True}).raise_for_status()
        if number == 5:
            server.http.delete(f"/v1/checkpoints/{saved['id']}").raise_for_status()
        if number == 6:
            server.save(directory, rng.randbytes(900), name=saved["name"])
    server.save("runs/b/checkpoints", b"x" * 500, name="last.pt", max_checkpoints=6, max_best_checkpoints=2, mode="max")
    for directory in ("runs/a", "other"):
        for number in range(4):
            contents = {"model.bin": rng.randbytes(5000), "more/state.bin": rng.randbytes(300), "more/empty": b""}
            contents = contents if number % 2 else {"model.bin": rng.randbytes(5000)}
            save_folder(server, directory, f"folder-{number}", contents, epoch=number)
        for name in ("same-1.pt", "same-2.pt"):
            server.save(directory, b"the same bytes" * 30, name=name)
    policy = {"mode": "min", "max_checkpoints": 40}
    server.http.put("/v1/directories/other", json=policy).raise_for_status()
    server.http.put("/v1/directories/only/a/policy", json={"max_checkpoints": 3}).raise_for_status()
    server.http.put("/v1/directories/asked/and/taken/back", json={"max_checkpoints": 3}).raise_for_status()
    server.http.put("/v1/directories/asked/and/taken/back", json={}).raise_for_status()
    server.wait_until_freed()


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """An intact root that no test changes, and everything known of it."""
    root = tmp_path_factory.mktemp("original") / "root"
    with LiveServer(root, scrub_bytes_per_s="0") as server:
        fill(server, random.Random(1))
        victims = [
            Victim(c["id"], c["directory"], c["name"], {f["stored_at"]: f["size_bytes"] for f in c["files"]})
            for directory in DIRECTORIES
            for c in server.http.get("/v1/checkpoints", params={"directory": directory, "page_size": 1000}).json()[
                "checkpoints"
            ]
        ]
        assert server.stop() == 0
    assert len(victims) > 40
    return SimpleNamespace(root=root, victims=victims, picture=picture(root))


def picture(root):
    """Return all that a client can learn of a root: policies, best, latest, every live checkpoint with its bytes."""
    seen = {}
    with (
        closing(Catalog(default_url(root.resolve() / ".holdfast"), read_only=True)) as catalog,
        closing(LocalStorage(root, version="", only_look=True)) as storage,
        catalog.reading() as session,
    ):
        for directory in session.directories.below(""):
            best, latest = session.checkpoints.best(directory.name, "min"), session.checkpoints.latest(directory.name)
            seen[directory.name] = (directory.policy, directory.sequence, best and best.id, latest and latest.id)
            for row in session.checkpoints.live(directory.name):
                told = manifests.dump(Manifest(row, session.checkpoints.maps(row.id)))
                contents = []
                for file in row.files:
                    with closing(storage.content.open(row, file)) as opened:
                        contents.append(opened.read(0, opened.size_bytes))
                said = manifests.load((root / storage.records.manifest_key(row.directory, row.name)).read_bytes())
                assert json.loads(manifests.dump(Manifest(said.checkpoint, said.maps))) == json.loads(told)
                seen[row.id] = (directory.name, row.name, told, contents, session.checkpoints.is_searched_as(row))
    return seen


def state(root):
    """Every file, link and pipe with its bytes and its times, and all that the catalog holds; but who has the lock."""
    found = {}
    for path in root.rglob("*"):
        if not path.name.startswith("catalog.db") and path.name not in {"lock", "opened"}:
            stat = path.lstat()
            data = path.read_bytes() if S_ISREG(stat.st_mode) else None
            found[path.relative_to(root)] = (stat.st_mode, None if S_ISDIR(stat.st_mode) else stat.st_mtime_ns, data)
    with closing(sqlite3.connect(root / ".holdfast" / "catalog.db")) as sql:
        return found, list(sql.iterdump())


def fsck(capsys, root, *flags):
    """Run it in this process: its status, and what it says as pairs of kind and place."""
    capsys.readouterr()
    status = main(["fsck", "--root", str(root), *flags])
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"\d+ checkpoints?, \d+ bytes read: .+", lines[-1]), lines
    said = {tuple(line.split(": ")[:2]): line for line in lines[:-1]}
    assert len(said) == len(lines) - 1, lines
    return status, said


def damaged(original, root, rng, kinds):
    shutil.copytree(original.root, root, symlinks=True)
    made = Damaged(root, rng, list(original.victims), list(DIRECTORIES))
    for kind in kinds:
        kind(made)
    return made


def check(capsys, original, made):
    """fsck says just what was done, repairs what it can, and leaves everything else as it is."""
    before = state(made.root)
    status, said = fsck(capsys, made.root, "--dry-run")
    assert said.keys() == made.expected.keys()
    assert status == 4
    assert state(made.root) == before

    status, said = fsck(capsys, made.root)
    stays = {where for where, end in made.expected.items() if end == "stays"}
    assert said.keys() == made.expected.keys()
    assert {where for where, line in said.items() if not line.endswith("(repaired)")} == stays
    assert status == (4 if stays else 1)
    status, said = fsck(capsys, made.root, "--dry-run")
    assert (status, said.keys()) == (4 if stays else 0, stays)
    for path in made.foreign:
        assert os.path.lexists(path)
    if "stays" not in made.expected.values():
        lost = [key for key, value in original.picture.items() if key in made.touched]
        after, wanted = picture(made.root), dict(original.picture)
        if "lost" in made.expected.values():
            for key in (*lost, *DIRECTORIES):
                after.pop(key, None)
                wanted.pop(key, None)
        assert after == wanted
    else:
        untouched(original, made)


def untouched(original, made):
    """Assert that everything undamaged is unchanged, to the byte."""
    for victim in made.victims:
        for place in (victim.manifest, *victim.files):
            assert (made.root / place).read_bytes() == (original.root / place).read_bytes()


def test_every_damage_is_named_and_what_is_certain_is_repaired(original, tmp_path, capsys):
    count = rounds(25, 1000)
    seed = random.SystemRandom().randrange(10**9)
    rng = random.Random(seed)
    kinds = []
    for number in range(count):
        while len(kinds) < AT_ONCE:
            kinds += rng.sample(QUICK, len(QUICK))
        many = AT_ONCE if number % 4 == 0 else rng.randint(1, AT_ONCE)
        chosen = [kinds.pop() for _ in range(many)] + (PASSING if number % 20 == 0 else [])
        for kind in [kind for kind in chosen if kind in OF_DIRECTORIES][len(DIRECTORIES) :]:
            chosen.remove(kind)
        made = damaged(original, tmp_path / f"root-{number}", rng, [])
        for directory in ("runs/a", "other"):  # with both of them damaged, the owner of a file is unknown
            made.take(lambda victim, directory=directory: victim.place.startswith(f"{directory}/same-"))
        for kind in chosen:
            kind(made)
        try:
            check(capsys, original, made)
        except BaseException:
            print(f"round {number} of seed {seed}:", *(kind.__name__ for kind in chosen), made.expected, sep="\n  ")
            raise
        shutil.rmtree(made.root)


def test_a_root_in_good_order_is_well(original, tmp_path, capsys):
    shutil.copytree(original.root, root := tmp_path / "root", symlinks=True)
    before = state(root)
    assert fsck(capsys, root, "--dry-run") == (0, {})
    assert state(root) == before
    assert fsck(capsys, root) == (0, {})
    assert picture(root) == original.picture
    assert state(root)[0] == before[0]


def test_what_lies_there_whole_is_not_taken_apart_for_another(original, tmp_path, capsys):
    """Two with the same bytes: one has lost its row, the other its file."""
    made = damaged(original, tmp_path / "root", random.Random(1), [])
    one, other = (made.take(lambda victim, name=f"runs/a/same-{n}.pt": victim.place == name) for n in (1, 2))
    with made.sql() as sql:
        sql.execute("DELETE FROM checkpoints WHERE id = ?", [one.id])
    (made.root / other.place).unlink()
    made.expect("unknown", one.place, "mended")
    made.expect("missing", other.place, "stays")
    check(capsys, original, made)
    assert (made.root / one.place).read_bytes() == (original.root / one.place).read_bytes()


def test_a_file_is_put_back_to_the_one_of_two_with_the_same_bytes_that_is_not_gone_as_a_whole(
    original, tmp_path, capsys
):
    for number in (1, 2):
        made = damaged(original, tmp_path / f"root-{number}", random.Random(1), [])
        one, other = (
            made.take(lambda victim, n=n: victim.place == f"runs/a/same-{n}.pt") for n in (number, 3 - number)
        )
        for place in (one.manifest, one.place):
            (made.root / place).unlink()
        (made.root / other.place).rename(made.root / "elsewhere")
        made.expect("stale", one.place, "lost")
        made.expect("renamed", other.place, "mended")
        check(capsys, original, made)


def test_an_empty_file_of_others_is_nobody_s_missing_file(original, tmp_path, capsys):
    made = damaged(original, tmp_path / "root", random.Random(1), [])
    victim = made.take(lambda victim: not all(victim.files.values()))
    (empty,) = (place for place, size in victim.files.items() if not size)
    (made.root / empty).unlink()
    (made.root / "__init__.py").touch()
    made.foreign.append(made.root / "__init__.py")
    made.expect("missing", empty, "stays")
    made.expect("extra", "__init__.py", "stays")
    check(capsys, original, made)


def test_an_unknown_directory_is_taken_in_with_its_policy_and_its_checkpoints(original, tmp_path, capsys):
    made = damaged(original, tmp_path / "root", random.Random(1), [])
    with made.sql() as sql:
        for table, column in (("checkpoints", "directory"), ("directories", "name")):
            sql.execute(f"DELETE FROM {table} WHERE {column} IN ('other', 'only/a/policy')")
    for victim in (victim for victim in original.victims if victim.directory == "other"):
        made.victims.remove(victim)
        made.expect("unknown", victim.place, "mended")
    for name in ("other", "only/a/policy"):  # if it has checkpoints, each of them restores it as well
        made.expect("unknown", f"{name}/.holdfast/directory.json", "mended")
    check(capsys, original, made)


def test_a_catalog_from_a_backup_takes_in_what_came_later_and_saves_go_on(tmp_path, capsys):
    root, old = tmp_path / "root", tmp_path / "catalog.db"
    with LiveServer(root, scrub_bytes_per_s="0") as server:
        server.save("runs/a", b"1", name="1.pt")
        assert server.stop() == 0
        shutil.copy(root / ".holdfast" / "catalog.db", old)
        server.start()
        for number in (2, 3, 4):
            server.save("runs/a", b"%d" % number, name=f"{number}.pt")
            server.save("runs/later", b"%d" % number, name=f"{number}.pt", max_checkpoints=3)
        assert server.stop() == 0
        shutil.copy(old, root / ".holdfast" / "catalog.db")
        status, said = fsck(capsys, root)
        assert (status, {kind for kind, _ in said}) == (1, {"catalog"})
        assert fsck(capsys, root) == (0, {})
        server.start()
        server.save("runs/a", b"5", name="5.pt")
        server.save("runs/later", b"5", name="5.pt", max_checkpoints=3)
        assert server.names("runs/a") == ["1.pt", "2.pt", "3.pt", "4.pt", "5.pt"]
        assert server.names("runs/later") == ["3.pt", "4.pt", "5.pt"]


def test_what_is_missing_is_known_as_damage_until_it_is_back(tmp_path, capsys):
    root = tmp_path / "root"
    with LiveServer(root, scrub_bytes_per_s="0") as server:
        saved = server.save("runs/a", b"bytes", name="x.pt")
        assert server.stop() == 0
        (root / "runs/a/x.pt").rename(tmp_path / "away")
        assert fsck(capsys, root)[0] == 4
        server.start()
        get = server.http.get(f"/v1/checkpoints/{saved['id']}").json()
        assert get["damage"] == "runs/a/x.pt is missing"
        assert server.stop() == 0
        (tmp_path / "away").rename(root / "runs/a/y.pt")
        assert fsck(capsys, root)[0] == 1
        server.start()
        assert server.http.get(f"/v1/checkpoints/{saved['id']}").json()["damage"] is None
        assert server.http.get(f"/v1/checkpoints/{saved['id']}/content").content == b"bytes"


@pytest.mark.parametrize("command", ["fsck", "reindex"])
def test_what_can_be_restored_can_be_restored_afterwards(tmp_path, capsys, command):
    """The undo window is a setting of the server: a command without it empties no trash."""
    root = tmp_path / "root"
    with LiveServer(root, undo_window="1h") as server:
        saved = server.save("runs/a", b"bytes", name="x.pt")
        server.save("runs/a", b"others", name="y.pt")
        server.http.delete(f"/v1/checkpoints/{saved['id']}").raise_for_status()
        assert server.stop() == 0
        assert main([command, "--root", str(root)]) == 0
        server.start()
        server.http.post(f"/v1/checkpoints/{saved['id']}/restore").raise_for_status()
        assert server.http.get(f"/v1/checkpoints/{saved['id']}/content").content == b"bytes"


@pytest.mark.parametrize("flags", [[], ["--dry-run"]])
def test_what_is_no_root_is_not_made_one(tmp_path, capsys, flags):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_bytes(b"mine")
    for root in (tmp_path / "mine", tmp_path / "nothing"):
        assert main(["fsck", "--root", str(root), *flags]) == 2
        assert "no root" in capsys.readouterr().err
    assert [path.name for path in tmp_path.rglob("*")] == ["mine", "file"]


@pytest.mark.parametrize("flags", [[], ["--dry-run"]])
def test_a_broken_database_is_said_to_be_broken_and_nothing_is_done_by_it(original, tmp_path, capsys, flags):
    """In the middle, where only some of its rows are, and at its beginning."""
    for number, offset in enumerate((0, 4096 * 5, 4096 * 12)):
        root = tmp_path / f"root-{number}"
        shutil.copytree(original.root, root, symlinks=True)
        with (root / ".holdfast" / "catalog.db").open("r+b") as file:
            file.seek(offset)
            file.write(b"\xa5" * 4096)
        before = {path: path.read_bytes() for path in (root / "runs").rglob("*") if path.is_file()}
        status = main(["fsck", "--root", str(root), *flags])
        said = capsys.readouterr()
        assert (status, "catalog: " in said.out) == (4, True) or (status, "database" in said.err) == (2, True), said
        assert {path: path.read_bytes() for path in (root / "runs").rglob("*") if path.is_file()} == before


def run(root, *flags):
    command = [sys.executable, "-m", "app", "fsck", "--root", str(root), *flags]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, timeout=DEADLINE_S, check=False)


def test_as_a_command_it_says_names_that_are_no_text(original, tmp_path):
    shutil.copytree(original.root, root := tmp_path / "root", symlinks=True)
    (root / os.fsdecode(b"\xff\n")).touch()
    flip_place = next(victim for victim in original.victims if victim.is_folder).manifest
    (root / flip_place).write_bytes(b"{}")
    done = run(root)
    assert (done.returncode, done.stderr) == (4, b"")
    assert len(done.stdout.splitlines()) == 3
    assert b"extra: \\udcff\\n: " in done.stdout
    assert f"record: {flip_place}: ".encode() in done.stdout


class Load:
    """Saves, replaces, prunes, pins, changes policies and restores, until it is stopped."""

    def __init__(self, server, number):
        self._url, self._number, self._stop = server.url, number, threading.Event()
        self._thread = threading.Thread(target=self._work)
        self.errors, self.count = [], 0

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def _work(self):
        with httpx.Client(base_url=self._url, timeout=DEADLINE_S) as http:
            while not self._stop.is_set():
                try:
                    self._once(http, f"load/{self._number % 2}")
                except Exception as error:
                    self.errors.append(error)
                    return
                self.count += 1

    def _once(self, http, directory):
        about = {"directory": directory, "max_checkpoints": 2 + self.count % 3}
        for name in (f"same-{self._number}.pt", f"new-{self._number}-{self.count}.pt"):
            answer = http.post(
                "/v1/checkpoints", params={**about, "name": name}, content=bytes([self.count % 256]) * 5000
            )
            answer.raise_for_status()
            http.patch(f"/v1/checkpoints/{answer.json()['id']}", json={"metadata": {"at": self.count}})
        http.put(f"/v1/directories/policies/{self._number}-{self.count}", json={"max_checkpoints": 3})
        http.put(f"/v1/directories/policies/{self._number}", json={"max_checkpoints": self.count % 5})
        http.post(f"/v1/checkpoints/{answer.json()['id']}/restore")
        http.post("/v1/prune", json={"directory": directory})


def test_beside_a_server_at_work_it_raises_no_false_alarm(tmp_path, capsys):
    root = tmp_path / "root"
    with LiveServer(root, undo_window="2s", janitor_every_s="0.2", scrub_every="0s") as server:
        server.save("runs/a", b"left alone", name="x.pt")
        with Load(server, 1) as one, Load(server, 2) as two:
            for _ in range(rounds(20, 500)):
                assert fsck(capsys, root, "--dry-run") == (0, {})
            assert main(["fsck", "--root", str(root)]) == 2
            assert "in use" in capsys.readouterr().err
            (root / "runs/a/x.pt").write_bytes(b"and changed")
            status, said = fsck(capsys, root, "--dry-run")
            assert (status, set(said)) == (4, {("altered", "runs/a/x.pt")})
        assert not one.errors + two.errors
        assert min(one.count, two.count) > 0
        assert server.stop() == 0
    status, said = fsck(capsys, root)
    assert (status, set(said)) == (4, {("altered", "runs/a/x.pt")})
