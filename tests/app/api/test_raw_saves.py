"""Raw saves with HTTP's own means: digests in headers, preconditions, names of downloads."""

import base64
import hashlib
import subprocess
import threading
from secrets import token_hex

import httpx
import pytest

from tests.data.delta_states import refusal
from tests.support.deadlines import DEADLINE_S
from tests.support.live import eventually
from tests.support.tokens import bearer, mint, revoke

BODY = b"bytes of a checkpoint" * 1000


def digest(name, data=BODY):
    return base64.b64encode(hashlib.new(name, data).digest()).decode()


TRUE = [
    {"Content-Digest": f"sha-256=:{digest('sha256')}:"},
    {"Content-Digest": f"sha-512=:{digest('sha512')}:, unknown=:AAAA:"},
    {"Content-MD5": digest("md5")},
    {"Repr-Digest": f"sha-256=:{digest('sha256')}:"},
]
UNTRUE = [
    {"Content-Digest": f"sha-256=:{digest('sha256', b'other')}:"},
    {"Content-Digest": f"sha-256=:{digest('sha256')}:, sha-512=:{digest('sha512', b'other')}:"},
    {"Content-Digest": "sha-256=nonsense"},
    {"Content-MD5": digest("md5", b"other")},
    {"Content-MD5": "nonsense"},
    {"Repr-Digest": f"sha-512=:{digest('sha512', b'other')}:"},
]


@pytest.mark.parametrize("headers", TRUE)
def test_a_digest_that_is_true_is_no_obstacle(server, directory, headers):
    answer = server.http.post("/v1/checkpoints", params={"directory": directory}, content=BODY, headers=headers)
    assert answer.status_code == 201


@pytest.mark.parametrize("headers", UNTRUE)
def test_of_a_body_with_an_untrue_digest_nothing_is_kept(server, directory, headers):
    answer = server.http.post("/v1/checkpoints", params={"directory": directory}, content=BODY, headers=headers)
    assert refusal(answer) == (400, "body_altered")
    assert server.http.get(f"/v1/checkpoints?directory={directory}").json().get("checkpoints", []) == []
    upload = {"directory": directory, "name": "f.pt", "save_id": token_hex(8)}
    begun = server.http.post("/v1/uploads", json={**upload, "files": [{"size_bytes": len(BODY)}]}).json()
    url = begun["missing"][0]["url"]
    answer = server.http.put(url, content=BODY, headers=headers)
    if "Repr-Digest" in headers:  # the digest of the whole file, of which this is a range
        assert answer.status_code == 200
    else:
        assert refusal(answer) == (400, "body_altered")
        assert server.http.get(f"/v1/uploads/{begun['id']}").json()["missing"] == begun["missing"]
    assert server.http.put(url, content=BODY[::-1], headers={}).status_code == 200
    assert server.http.post(f"/v1/uploads/{begun['id']}/commit").status_code == 201
    assert server.http.get("/v1/checkpoints/latest/content", params={"directory": directory}).content == BODY[::-1]


def test_a_batch_with_an_untrue_digest_is_not_written(server, directory):
    files = [{"path": name, "size_bytes": 3} for name in "ab"]
    begun = server.http.post(
        "/v1/uploads", json={"directory": directory, "name": "f", "save_id": token_hex(8), "files": files}
    ).json()
    url, headers = f"/v1/uploads/{begun['id']}/batch?files=0-1", {"Content-MD5": digest("md5", b"other")}
    assert refusal(server.http.put(url, content=b"aaabbb", headers=headers)) == (400, "body_altered")
    assert len(server.http.get(f"/v1/uploads/{begun['id']}").json()["missing"]) == 2
    assert server.http.put(url, content=b"aaabbb").status_code == 200


def test_json_may_declare_other_digests_too(server, directory):
    body = b'{"mode": "max"}'
    headers = {"Content-Type": "application/json", "Content-MD5": digest("md5", b"other")}
    answer = server.http.put(f"/v1/directories/{directory}", content=body, headers=headers)
    assert refusal(answer) == (400, "body_altered")
    headers = {"Content-Type": "application/json", "Content-Digest": f"sha-512=:{digest('sha512', body)}:"}
    assert server.http.put(f"/v1/directories/{directory}", content=body, headers=headers).status_code == 200


def test_a_save_can_ask_to_replace_nothing(server, directory):
    query, absent = {"directory": directory, "name": "a.pt"}, {"If-None-Match": "*"}
    assert server.http.post("/v1/checkpoints", params=query, content=b"1", headers=absent).status_code == 201
    answer = server.http.post("/v1/checkpoints", params=query, content=b"2", headers=absent)
    assert refusal(answer) == (412, "precondition_failed")
    assert server.http.get("/v1/checkpoints/latest/content", params={"directory": directory}).content == b"1"
    latest = server.http.get("/v1/checkpoints/latest", params={"directory": directory}).json()
    assert answer.json()["checkpoint_id"] == latest["id"]
    server.http.delete(f"/v1/checkpoints/{latest['id']}").raise_for_status()
    assert server.http.post("/v1/checkpoints", params=query, content=b"2", headers=absent).status_code == 201


DATE = "Sat, 29 Oct 1994 19:43:31 GMT"


@pytest.mark.parametrize(
    "headers",
    [
        [("If-None-Match", "etag")],
        [("If-Match", "etag")],
        [("If-Unmodified-Since", DATE)],
        [("If-Modified-Since", DATE)],
        [("if-range", '"etag"')],
        [("If", "(<urn:uuid:1>)")],
    ],
    ids=str,
)
def test_another_precondition_is_not_taken_for_none(server, directory, headers):
    answer = server.http.post("/v1/checkpoints", params={"directory": directory}, content=b"1", headers=headers)
    assert refusal(answer) == (422, "invalid_request")
    assert "precondition" in answer.json()["detail"]


@pytest.mark.parametrize("name", ["If-Match", "If-None-Match", "If-Unmodified-Since", "If-Schedule-Tag-Match"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/checkpoints/{id}/restore"),
        ("DELETE", "/v1/uploads/{id}"),
        ("DELETE", "/v1/directories/{directory}"),
        ("POST", "/v1/prune"),
    ],
)
def test_no_route_that_changes_something_takes_a_precondition_for_none(server, directory, name, method, path):
    saved = server.save(directory, b"1")
    url = path.format(id=saved["id"], directory=directory)
    answer = server.http.request(method, url, headers={name: "*"}, json={} if method != "DELETE" else None)
    assert refusal(answer) == (422, "invalid_request")
    assert name.lower() in answer.json()["detail"].lower()
    assert server.http.get(f"/v1/checkpoints/{saved['id']}").json()["removed_at"] is None


def test_of_saves_at_the_same_time_that_replace_nothing_one_is_made(server, directory):
    """The precondition is evaluated at the commit: every save begins before the first one ends."""
    begun, statuses = threading.Barrier(4), []

    def save(number):
        def body():
            yield b"first"
            begun.wait(DEADLINE_S)
            yield str(number).encode()

        query = {"directory": directory, "name": "a.pt"}
        answer = httpx.post(
            f"{server.url}/v1/checkpoints",
            params=query,
            content=body(),
            headers={"If-None-Match": "*"},
            timeout=DEADLINE_S,
        )
        statuses.append(answer.status_code)

    threads = [threading.Thread(target=save, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [201, 412, 412, 412]


def test_an_upload_can_be_committed_to_replace_nothing(server, directory):
    def begun():
        files = [{"size_bytes": 1}]
        upload = {"directory": directory, "name": "a.pt", "save_id": token_hex(8), "files": files}
        made = server.http.post("/v1/uploads", json=upload).json()
        server.http.put(made["missing"][0]["url"], content=b"x").raise_for_status()
        return made["id"]

    absent = {"If-None-Match": "*"}
    before = begun()
    server.save(directory, b"other", name="a.pt")
    for upload in (before, begun()):
        answer = server.http.post(f"/v1/uploads/{upload}/commit", headers=absent)
        assert refusal(answer) == (412, "precondition_failed")
    assert server.http.post(f"/v1/uploads/{upload}/commit").status_code == 201
    assert server.http.post(f"/v1/uploads/{upload}/commit", headers=absent).status_code == 200


def test_a_save_whose_token_is_revoked_meanwhile_is_refused_at_the_commit(make_server):
    live = make_server()
    keep, token = mint(live.root, "admin"), mint(live.root, "write")
    answers, revoked = [], threading.Event()

    def body():
        yield b"first"
        revoked.wait(DEADLINE_S)
        yield b"last"

    def save():
        url = f"{live.url}/v1/checkpoints?directory=runs/a"
        answers.append(httpx.post(url, content=body(), headers=bearer(token), timeout=DEADLINE_S))

    thread = threading.Thread(target=save)
    thread.start()
    assert eventually(live.incoming)
    assert revoke(live.root, token[5:15])
    revoked.set()
    thread.join()
    assert refusal(answers[0]) == (401, "unauthorized")
    listed = live.http.get("/v1/checkpoints?directory=runs/a", headers=bearer(keep)).json()
    assert listed.get("checkpoints", []) == []
    assert eventually(lambda: not live.incoming())


@pytest.mark.parametrize("name", ["model_best.pt", "a b.pt", "größe-模型.pt"])
@pytest.mark.parametrize("which", ["best", "latest"])
def test_curl_gives_the_download_its_name(server, directory, tmp_path, name, which):
    server.save(directory, b"bytes", name=name, metric=1)
    url = f"{server.url}/v1/checkpoints/{which}/content?directory={directory}"
    subprocess.run(["curl", "-sfOJ", url], cwd=tmp_path, check=True, timeout=DEADLINE_S)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    said = httpx.get(url).headers["content-disposition"]
    assert "filename*=UTF-8''" in said
