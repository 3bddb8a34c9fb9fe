"""A real ext4 that is really full: refusals come before bytes, what was there stays, removals free what they say."""

import os
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import httpx
import pytest

from tests.data.delta_states import Uploader, declared, pieces, refusal
from tests.support.deadlines import DEADLINE_S
from tests.support.live import LiveServer, eventually
from tests.support.mounts import mount_point

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system takes root")

MB = 1_000_000
DISK_MB = 96
BLOCK_BYTES = 4096
SLACK_BYTES = 300_000  # for folders, for the file system's own records, and for what SQLite's log grows by


@pytest.fixture
def root():
    """A root on an ext4 of its own, which is gone after the test whatever happens."""
    with mount_point() as root:
        _mount(root, root.with_name("image"))
        yield root


def _mount(root, image):
    with image.open("wb") as file:
        file.truncate(DISK_MB * 1024 * 1024)
    for command in (["mkfs.ext4", "-q", "-F", "-m", "0", image], ["mount", "-o", "loop", image, root]):
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            pytest.skip(f"{command[0]} is not installed")
        if done.returncode:
            pytest.skip(f"no ext4 can be mounted here: {done.stderr.strip()}")


@pytest.fixture
def server(root):
    """A server there that keeps nothing in reserve, as most tests count every byte."""
    with LiveServer(root, reserve_bytes="0", scrub_bytes_per_s="0") as live:
        yield live


def free_bytes(root):
    found = os.statvfs(root)
    return found.f_bavail * found.f_frsize


def leave_free(root, wanted_bytes):
    """Let a file of others take all but so much of the disk."""
    os.sync()
    path = root / "somebody-elses"
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free_bytes(root) - max(wanted_bytes, MB))
    return path


def fill_up(root):
    """Let nothing be free at all."""
    with leave_free(root, 0).open("ab", buffering=0) as file, suppress(OSError):
        while file.write(bytes(BLOCK_BYTES)):
            pass


def verifies(server, contents):
    """Everything that was saved is there, and its bytes are what was saved."""
    for checkpoint_id, data in contents.items():
        answer = server.http.get(f"/v1/checkpoints/{checkpoint_id}/content")
        assert (answer.status_code, answer.content == data) == (200, True)


def answer_on(connection):
    """The first response, with its body: a refusal, or 100 Continue."""
    data = b""
    while not data.endswith((b"}", b"\r\n\r\n")):
        data += connection.recv(65536)
    return data if data.endswith(b"}") or b" 100 " in data else data + connection.recv(65536)


def shot(server, size):
    """The answer to the head of a save of so many bytes, of which none is sent."""
    with socket.create_connection(("127.0.0.1", httpx.URL(server.url).port), timeout=DEADLINE_S) as connection:
        lines = ("POST /v1/checkpoints?directory=runs/a HTTP/1.1", "Host: localhost", f"Content-Length: {size}")
        connection.sendall("\r\n".join([*lines, "Expect: 100-continue", "", ""]).encode())
        return answer_on(connection)


def reserve(server, size, name, **more):
    body = {"directory": "runs/a", "name": name, "files": [{"size_bytes": size}], **more}
    return server.http.post("/v1/uploads", json=body)


def finish(server, upload, data):
    for wanted in upload["missing"]:
        part = data[wanted["offset"] :][: wanted["length"]]
        answer = server.http.put(wanted["url"], content=part)
        if answer.status_code != 200:
            return answer
    return server.http.post(f"/v1/uploads/{upload['id']}/commit")


def test_what_does_not_fit_is_refused_before_its_bytes_and_what_was_there_stays(server, root):
    contents = {}
    for number in range(3):
        data = os.urandom(5 * MB)
        contents[server.save("runs/a", data, name=f"{number}.pt")["id"]] = data
    leave_free(root, 10 * MB)
    before = free_bytes(root)
    answer = shot(server, 12 * MB)
    assert answer.startswith(b"HTTP/1.1 507 ")
    assert b'"code":"no_space"' in answer
    refused = reserve(server, 12 * MB, "big.pt")
    assert refusal(refused) == (507, "no_space")
    assert refused.json()["wanted_bytes"] == 12 * MB
    assert refused.json()["free_bytes"] <= before
    files = [{"path": f"{number}.bin", "size_bytes": 3 * MB} for number in range(4)]
    folder = server.http.post("/v1/uploads", json={"directory": "runs/a", "name": "folder", "files": files})
    assert refusal(folder) == (507, "no_space")
    assert server.incoming() == []
    assert before - free_bytes(root) < SLACK_BYTES
    data = os.urandom(8 * MB)
    assert shot(server, 8 * MB).startswith(b"HTTP/1.1 100 "), "the next one fits"
    assert eventually(lambda: server.incoming() == []), "the connection was cut"
    contents[server.save("runs/a", data, name="fits.pt")["id"]] = data
    verifies(server, contents)


def prune(server, **more):
    answer = server.http.post("/v1/prune", json={"directory": "runs/a", **more})
    answer.raise_for_status()
    return answer.json()


def fill_and_limit(server):
    """Files of odd sizes and a folder, of which a policy that comes later keeps one."""
    for number in range(6):
        server.save("runs/a", os.urandom(3 * MB + 1234 * number), name=f"{number}.pt")
    contents = {"model.bin": os.urandom(4 * MB + 1), "more/state.bin": os.urandom(10), "more/b.bin": os.urandom(99)}
    files = [{"path": path, "size_bytes": len(data)} for path, data in contents.items()]
    body = {"directory": "runs/a", "name": "folder", "files": files}
    upload = server.http.post("/v1/uploads", json=body).json()
    for wanted in upload["missing"]:
        part = contents[wanted["file"]][wanted["offset"] :][: wanted["length"]]
        server.http.put(wanted["url"], content=part).raise_for_status()
    server.http.post(f"/v1/uploads/{upload['id']}/commit").raise_for_status()
    server.save("runs/a", b"the newest", name="last.pt")
    server.http.put("/v1/directories/runs/a", json={"max_checkpoints": 1}).raise_for_status()
    return 9  # files that go


def freed_of(answer):
    return sum(directory["freed_bytes"] for directory in answer["directories"])


def test_a_prune_frees_what_it_says_by_the_file_system_s_own_count(server, root):
    files = fill_and_limit(server)
    promised = freed_of(prune(server, dry_run=True))
    os.sync()
    before = free_bytes(root)
    freed = freed_of(prune(server))
    os.sync()
    grown = free_bytes(root) - before
    assert freed == promised > 20 * MB
    assert -SLACK_BYTES < grown - freed < files * BLOCK_BYTES + SLACK_BYTES
    assert server.names("runs/a") == ["last.pt"]


def test_with_an_undo_window_the_trash_keeps_it_until_a_save_needs_it(root):
    with LiveServer(root, reserve_bytes="0", scrub_bytes_per_s="0", undo_window="1h") as server:
        fill_and_limit(server)
        os.sync()
        before = free_bytes(root)
        freed = freed_of(prune(server))
        os.sync()
        assert abs(free_bytes(root) - before) < SLACK_BYTES
        leave_free(root, 3 * MB)
        data = os.urandom(8 * MB)
        saved = server.save("runs/a", data, name="new.pt")
        verifies(server, {saved["id"]: data})
        trash = list((root / ".holdfast" / "trash").iterdir())
        assert 0 < len(trash) < 7, "as much of it went as was needed, and no more"
        assert refusal(server.http.post("/v1/checkpoints?directory=runs/a", content=bytes(freed))) == (507, "no_space")
        verifies(server, {saved["id"]: data})


def test_saves_that_do_not_fit_together_end_in_whole_checkpoints_and_refusals(server, root):
    leave_free(root, 30 * MB)
    bodies = {f"{number}.pt": os.urandom(9 * MB) for number in range(8)}

    def save(name):
        if int(name[0]) % 2:
            return server.http.post(
                "/v1/checkpoints", params={"directory": "runs/a", "name": name}, content=bodies[name]
            )
        begun = reserve(server, 9 * MB, name)
        if begun.status_code != 201:
            return begun
        answer = finish(server, begun.json(), bodies[name])
        if answer.status_code != 201:
            server.http.delete(f"/v1/uploads/{begun.json()['id']}").raise_for_status()
        return answer

    with ThreadPoolExecutor(len(bodies)) as pool:
        answers = dict(zip(bodies, pool.map(save, bodies), strict=True))
    done = {name: answer for name, answer in answers.items() if answer.status_code == 201}
    assert all(refusal(answer) == (507, "no_space") for name, answer in answers.items() if name not in done)
    assert 1 <= len(done) <= 3
    assert sorted(server.names("runs/a")) == sorted(done)
    verifies(server, {answer.json()["id"]: bodies[name] for name, answer in done.items()})
    assert server.incoming() == []
    while len(done) < 3:
        name = next(name for name in bodies if name not in done)
        done[name] = save(name)
        assert done[name].status_code == 201, "what the others gave back can be used"
    verifies(server, {answer.json()["id"]: bodies[name] for name, answer in done.items()})


def test_what_must_be_copied_counts_like_what_is_sent(server, root):
    uploader = Uploader(server, "runs/a")
    held = pieces(8, MB)
    first = uploader.save(held, "1.pt")
    leave_free(root, 6 * MB)
    assert refusal(uploader.reserve(declared([*pieces(1, MB), *held]), name="2.pt")) == (507, "no_space")
    assert server.incoming() == []
    (root / "somebody-elses").unlink()
    leave_free(root, 12 * MB)
    state = [*pieces(1, MB), *held]
    second = uploader.save(state, "2.pt")
    verifies(server, {first["id"]: b"".join(held), second["id"]: b"".join(state)})


def test_killed_on_a_full_disk_it_starts_again_and_makes_room(server, root):
    contents = {}
    for number in range(3):
        data = os.urandom(4 * MB)
        contents[server.save("runs/a", data, name=f"{number}.pt")["id"]] = data
    upload = reserve(server, 6 * MB, "unfinished.pt").json()
    data = os.urandom(6 * MB)
    fill_up(root)
    refused = server.http.post("/v1/checkpoints?directory=runs/a", content=b"x" * 9000)
    assert refusal(refused) == (507, "no_space")
    answer = finish(server, upload, data)
    assert refusal(answer) == (507, "no_space")
    server.restart()
    verifies(server, contents)
    assert refusal(server.http.post("/v1/checkpoints?directory=runs/a", content=b"x" * 9_000_000)) == (507, "no_space")
    gone = min(contents)
    server.http.delete(f"/v1/checkpoints/{gone}").raise_for_status()
    server.wait_until_freed()
    contents.pop(gone)
    assert free_bytes(root) > 3 * MB
    (root / "somebody-elses").unlink()
    missing = server.http.get(f"/v1/uploads/{upload['id']}").json()
    committed = finish(server, missing, data)
    assert committed.status_code == 201
    contents[committed.json()["id"]] = data
    verifies(server, contents)
