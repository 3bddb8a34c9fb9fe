"""What pages show and what their forms do, over a socket and without a script."""

import html
import itertools
import json
import re
from urllib.parse import urlencode

import httpx
import pytest

from app.core.models import LIMITS
from tests.support.live import LiveServer
from tests.support.tokens import bearer, mint, revoke

HTML = {"Accept": "text/html"}
HOSTILE = "<script>alert(1)</script>&\"'"
_numbers = itertools.count()


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    with LiveServer(tmp_path_factory.mktemp("dashboard") / "root", undo_window="1h") as server:
        server.admin = bearer(mint(server.root, "admin"))
        yield server


class Browser(httpx.Client):
    """Somebody who is signed in with a token of these scopes."""

    def __init__(self, live, *scopes, prefix=""):
        super().__init__(base_url=live.url, headers=HTML, timeout=30)
        self.token = mint(live.root, *scopes, prefix=prefix)

    def __enter__(self):
        super().__enter__()
        self.send_form("/sign-in", token=self.token)
        return self

    def send_form(self, address, **fields):
        return self.post(address, content=urlencode(fields))


@pytest.fixture(scope="module")
def admin(live):
    with Browser(live, "admin") as browser:
        yield browser


@pytest.fixture
def name():
    return f"runs/{next(_numbers)}/checkpoints"


def save(live, directory, **query):
    answer = live.http.post(
        "/v1/checkpoints", params={"directory": directory, **query}, content=b"bytes", headers=live.admin
    )
    assert answer.status_code == 201, answer.text
    return answer.json()


def facts(live, saved):
    return live.http.get(f"/v1/checkpoints/{saved['id']}", headers=live.admin).json()


# what is shown


def test_the_first_page_shows_every_directory_with_its_figures(live, admin, name):
    for epoch, metric in enumerate((0.5, 0.25, 0.75)):
        save(live, name, epoch=epoch, metric=metric, mode="min")
    page = admin.get("/", params={"q": name}).text
    assert f'href="/directories/{name}"' in page
    assert "1 of" in page
    assert "3 checkpoints, 15 B" in page
    assert ">0.25<" in page.replace("\n", "")
    assert "<polyline" in page
    assert "active" in page
    assert "No directory matches" in admin.get("/", params={"q": "no such words"}).text


def test_a_directory_says_why_each_checkpoint_stays_and_what_goes_next(live, admin, name):
    for epoch, metric in enumerate((0.5, 0.25, 0.75)):
        save(live, name, epoch=epoch, metric=metric, max_checkpoints=2, max_best_checkpoints=2, mode="min")
    page = admin.get(f"/directories/{name}").text
    for reason in ("newest", "last 1 of 2", "last 2 of 2", "best 1 of 2", "best 2 of 2"):
        assert f">{reason}</span>" in page
    next_save = page[page.index('id="next"') : page.index('id="checkpoints"')]
    assert "<p>Nothing.</p>" in next_save
    assert "If the next save is the best so far, also" in next_save
    assert "checkpoint_epoch_0000.pt" in next_save
    assert "checkpoint_epoch_0001.pt" not in next_save


def test_removed_ones_are_shown_when_they_are_wanted(live, admin, name):
    for epoch in range(3):
        save(live, name, epoch=epoch, max_checkpoints=1, max_best_checkpoints=0)
    assert "checkpoint_epoch_0000.pt" not in admin.get(f"/directories/{name}").text
    page = admin.get(f"/directories/{name}", params={"removed": "true"}).text
    assert page.count('class="removed"') == 2
    assert "pruned" in page


def test_pages_of_a_long_list_follow_each_other(live, admin, name):
    for epoch in range(53):
        save(live, name, epoch=epoch)
    first = admin.get(f"/directories/{name}", params={"order": "position"})
    (following,) = [part.split('"')[0] for part in first.text.split('rel="next" href="')[1:]]
    second = admin.get(following.replace("&amp;", "&"))
    rows = [page.text.count('id="row-') for page in (first, second)]
    assert rows == [50, 3]
    assert ">unlimited</span>" in second.text
    assert ">last 1</span>" not in second.text
    assert "checkpoint_epoch_0052.pt" in second.text
    assert 'rel="next"' not in second.text


def test_a_checkpoint_shows_its_facts(live, admin, name):
    saved = save(live, name, epoch=7, metric="NaN", tags="first", metadata=json.dumps({"loss": 0.5}))
    page = admin.get(f"/checkpoints/{saved['id']}").text
    for said in (
        saved["id"],
        saved["digest"],
        "checkpoint_epoch_0007.pt",
        "nan",
        "first",
        "loss",
        f"{name}/checkpoint_epoch_0007.pt",
    ):
        assert said in page
    assert "The tensors of this checkpoint are not known" in page


def test_tensors_are_shown_and_searched(live, admin, name):
    tensors = [
        {"name": tensor, "dtype": "float32", "shape": [1], "offset": 0, "size_bytes": 4}
        for tensor in ("model.a.weight", "model.b.weight", f"model.{HOSTILE}")
    ]
    body = {"directory": name, "name": "t.pt", "files": [{"size_bytes": 0, "chunks": [], "tensors": tensors}]}
    upload = live.http.post("/v1/uploads", json=body, headers=live.admin).json()
    saved = live.http.post(f"/v1/uploads/{upload['id']}/commit", headers=live.admin).json()
    page = admin.get(f"/checkpoints/{saved['id']}").text
    assert "3 tensors, 12 B in total" in page
    assert "<script>alert" not in page
    found = admin.get(f"/checkpoints/{saved['id']}", params={"q": "A.Weight"}).text
    assert "1 of 3 tensors" in found


def test_what_users_say_is_never_markup(live, admin, name):
    body = {
        "directory": name,
        "name": "x.pt",
        "metadata": {HOSTILE: HOSTILE, "n": {"<b>": 1}},
        "files": [{"size_bytes": 0}],
    }
    upload = live.http.post("/v1/uploads", json=body, headers=live.admin).json()
    saved = live.http.post(f"/v1/uploads/{upload['id']}/commit", headers=live.admin).json()
    for address in (
        f"/checkpoints/{saved['id']}",
        f"/directories/{name}",
        f"/?q={HOSTILE}",
        f"/directories/{name}?order={HOSTILE}",
    ):
        page = admin.get(address).text
        assert "<script>alert" not in page
        assert "<b>1" not in page


def test_snippets_fetch_what_they_say(live, admin, name):
    save(live, name, epoch=1, metric=1)
    page = admin.get(f"/directories/{name}").text
    assert f"/v1/checkpoints/best/content?directory={name}" in page
    assert "$HOLDFAST_TOKEN" in page
    assert live.url in page


def test_snippets_of_a_folder_fetch_its_files(live, admin, name):
    files = [{"path": path, "size_bytes": 0} for path in ("model.bin", "sub/a b.json")]
    body = {"directory": name, "name": "step", "epoch": 1, "metric": 1, "files": files}
    upload = live.http.post("/v1/uploads", json=body, headers=live.admin).json()
    live.http.post(f"/v1/uploads/{upload['id']}/commit", headers=live.admin).raise_for_status()
    of_directory = html.unescape(admin.get(f"/directories/{name}").text)
    of_checkpoint = html.unescape(admin.get(f"/checkpoints/{upload['id']}").text)
    for page in (of_directory, of_checkpoint):
        assert "path = manager.download('step')" in page
        assert f"--output './step/sub/a b.json' {live.url}/v1/checkpoints/{upload['id']}/files/sub/a%20b.json" in page
    assert f"holdfast get {name} best --server {live.url}\n" in re.sub("</code>", "\n", of_directory)


def test_there_is_nothing_to_fetch_from_an_empty_directory(live, admin, name):
    live.http.put(f"/v1/directories/{name}", json={"max_checkpoints": 1}, headers=live.admin).raise_for_status()
    page = admin.get(f"/directories/{name}")
    assert page.status_code == 200
    assert ">Download<" not in page.text


# the course


def test_the_course_is_what_was_saved(live, admin, name):
    ids = [
        save(
            live,
            name,
            epoch=epoch,
            metric=1 / (epoch + 1),
            mode="min",
            metadata=json.dumps({"lr": epoch}),
            max_checkpoints=2,
            max_best_checkpoints=0,
        )["id"]
        for epoch in range(4)
    ]
    found = admin.get(f"/series/{name}?of=metric&of=lr").json()
    metric, rate = found["series"]
    assert (found["best"], found["latest"], found["mode"]) == (ids[3], ids[3], "min")
    assert (metric["of"], metric["id"], metric["value"]) == ("metric", ids, [1, 1 / 2, 1 / 3, 1 / 4])
    assert (rate["of"], rate["value"], rate["epoch"], rate["sequence"]) == (
        "lr",
        [0, 1, 2, 3],
        [0, 1, 2, 3],
        [1, 2, 3, 4],
    )
    assert metric["state"] == ["removed", "removed", "live", "live"]
    assert metric["time"] == sorted(metric["time"])
    assert admin.get(f"/series/{name}?of=unknown").json()["series"][0]["id"] == []


def test_the_names_of_directories_can_be_chosen_from(live, admin, name):
    save(live, name)
    assert name in admin.get("/names").json()


# the policy


def policy(**rules):
    fields = {"mode": "min"} | {f"{limit}_rule": "saves" for limit in LIMITS}
    for limit, value in rules.items():
        fields |= {f"{limit}_rule": "none" if value is None else "number", limit: "" if value is None else str(value)}
    return fields


def test_a_preview_gives_the_verdicts_and_changes_nothing(live, admin, name):
    for epoch in range(4):
        save(live, name, epoch=epoch, metric=epoch, mode="min")
    page = admin.get(f"/previews/{name}", params=policy(max_checkpoints=1, max_best_checkpoints=1)).text
    assert page.count('class="going"') == 2
    assert ">best 1 of 1</span>" in page
    listed = live.http.get("/v1/checkpoints", params={"directory": name}, headers=live.admin).json()["checkpoints"]
    assert len(listed) == 4
    assert live.http.get(f"/v1/directories/{name}", headers=live.admin).json()["policy"]["max_checkpoints"] is None


def test_a_policy_is_applied_and_what_it_does_not_keep_is_removed_when_asked(live, admin, name):
    for epoch in range(4):
        save(live, name, epoch=epoch, metric=epoch, mode="min")
    answer = admin.send_form(
        f"/policies/{name}", **policy(max_checkpoints=1, max_best_checkpoints=1, keep_every_epochs=2)
    )
    assert (answer.status_code, answer.headers["location"]) == (303, f"/directories/{name}?applied=true#policy")
    page = admin.get(answer.headers["location"]).text
    assert "The policy is in force" in page
    assert "removed next" in page
    found = live.http.get(f"/v1/directories/{name}", headers=live.admin).json()["policy"]
    assert (found["max_checkpoints"], found["max_best_checkpoints"], found["keep_every_epochs"]) == (1, 1, 2)
    answer = admin.send_form(f"/prunings/{name}")
    assert "1 checkpoint removed" in admin.get(answer.headers["location"]).text
    listed = live.http.get("/v1/checkpoints", params={"directory": name}, headers=live.admin).json()["checkpoints"]
    assert {one["epoch"] for one in listed} == {0, 2, 3}


def test_a_limit_can_be_left_to_saves_or_taken_away(live, admin, name):
    save(live, name, max_checkpoints=2, max_best_checkpoints=2)
    admin.send_form(f"/policies/{name}", **policy(max_checkpoints=None))
    found = live.http.get(f"/v1/directories/{name}", headers=live.admin).json()["policy"]
    assert found["max_checkpoints"] is None
    assert found["max_best_checkpoints"] == 2
    page = admin.get(f"/directories/{name}").text
    assert 'name="max_checkpoints_rule" value="none" checked' in page
    assert 'name="max_best_checkpoints_rule" value="saves" checked' in page


@pytest.mark.parametrize("number", ["", "-1", "1.5", "many", "1e3", "٣", "9" * 30])
def test_a_number_that_is_none_is_told_and_not_applied(live, admin, name, number):
    save(live, name)
    fields = policy(max_checkpoints=number)
    assert "Keep last: enter a whole number of at least 0" in admin.get(f"/previews/{name}", params=fields).text
    answer = admin.send_form(f"/policies/{name}", **fields)
    assert answer.status_code == 422
    assert "a whole number of at least 0" in answer.text


# pin, tag, delete, undo


def test_pinning_tagging_deleting_and_undoing(live, admin, name):
    saved = save(live, name, epoch=1)
    address = f"/checkpoints/{saved['id']}"
    page = f"/directories/{name}"
    assert admin.send_form(f"{address}/pin", pinned="true", to=page).headers["location"] == f"{page}?"
    assert facts(live, saved)["pinned"] is True
    assert admin.send_form(f"{address}/delete").status_code == 409
    admin.send_form(f"{address}/pin", pinned="false")
    admin.send_form(f"{address}/tags", tags=" good, for release,good ,")
    assert facts(live, saved)["tags"] == ["good", "for release"]
    change = {"tags": ["a,b", "c"]}
    live.http.patch(f"/v1/checkpoints/{saved['id']}", json=change, headers=live.admin).raise_for_status()
    shown = re.search(r'name="tags" value="([^"]*)"', admin.get(address).text)[1]
    admin.send_form(f"{address}/tags", tags=html.unescape(shown))
    assert facts(live, saved)["tags"] == ["a,b", "c"]
    refused = admin.send_form(f"{address}/tags", tags="good, ../<x>")
    assert refused.status_code == 422
    assert 'class="fault"' in refused.text
    assert 'name="tags" value="good, ../&lt;x&gt;"' in refused.text
    assert facts(live, saved)["tags"] == ["a,b", "c"]
    answer = admin.send_form(f"{address}/delete", to=f"{page}?order=best")
    assert answer.headers["location"] == f"{page}?order=best&deleted={saved['id']}"
    said = admin.get(answer.headers["location"]).text
    assert "is deleted" in said
    assert "Undo" in said
    assert facts(live, saved)["removed_because"] == "deleted"
    assert "can be restored until" in admin.get(address).text
    answer = admin.send_form(f"{address}/restore")
    assert "is restored" in admin.get(answer.headers["location"]).text
    assert facts(live, saved)["removed_at"] is None


@pytest.mark.parametrize("body", ["", '{"pinned": true}', "pinned=1&max_checkpoints_rule=saves"])
def test_what_a_form_does_not_say_changes_nothing(live, admin, name, body):
    saved = save(live, name, tags="good")
    admin.send_form(f"/checkpoints/{saved['id']}/pin", pinned="true")
    admin.send_form(f"/policies/{name}", **policy(max_checkpoints=5))
    for address in (f"/checkpoints/{saved['id']}/pin", f"/checkpoints/{saved['id']}/tags", f"/policies/{name}"):
        answer = admin.post(address, content=body)
        assert answer.status_code == 422, address
        assert "The request was refused" in answer.text
    assert (facts(live, saved)["pinned"], facts(live, saved)["tags"]) == (True, ["good"])
    found = live.http.get(f"/v1/directories/{name}", headers=live.admin).json()["policy"]
    assert found["set_by_operator"] == ["max_checkpoints"]


@pytest.mark.parametrize("component", ["a b (1)", "é", "x,y=[1]{2}@~+:z"])
def test_forms_lead_back_whatever_the_directory_is_called(live, admin, name, component):
    saved = save(live, f"{name}/{component}")
    page = admin.get(f"/directories/{name}/{component}", params={"order": "name"})
    (to,) = {html.unescape(found) for found in re.findall('name="to" value="([^"]*)"', page.text)}
    answer = admin.send_form(f"/checkpoints/{saved['id']}/pin", pinned="true", to=to)
    assert httpx.URL(answer.headers["location"]).path == f"/directories/{name}/{component}"
    assert httpx.URL(answer.headers["location"]).params["order"] == "name"


def test_forms_of_a_page_lead_nowhere_else(live, admin, name):
    saved = save(live, name)
    answer = admin.send_form(f"/checkpoints/{saved['id']}/pin", pinned="true", to="https://evil.example/")
    assert answer.headers["location"].startswith("/?")


def test_what_was_done_elsewhere_is_not_told(live, admin, name):
    saved, page = save(live, name), f"/directories/{name}"
    other = save(live, f"{name}/other")
    for checkpoint_id in (other["id"], "unknown"):
        answer = admin.get(page, params={"deleted": checkpoint_id})
        assert answer.status_code == 200
        assert "is deleted" not in answer.text
    assert saved["name"] in admin.get(page).text


# who may

READING = ("/", "/directories/{0}", "/checkpoints/{1}", "/series/{0}", "/names", "/previews/{0}")
CHANGING = {
    "/checkpoints/{1}/pin": "write",
    "/checkpoints/{1}/tags": "write",
    "/checkpoints/{2}/restore": "write",
    "/checkpoints/{1}/delete": "delete",
    "/prunings/{0}": "delete",
    "/policies/{0}": "admin",
}


@pytest.fixture(scope="module")
def place(live):
    """A directory, a live checkpoint of it, and a removed one."""
    directory = "team/a"
    removed = save(live, directory, name="removed.pt")
    live.http.delete(f"/v1/checkpoints/{removed['id']}", headers=live.admin)
    return directory, save(live, directory, name="live.pt")["id"], removed["id"]


@pytest.mark.parametrize("scope", ["read", "write", "delete", "admin"])
@pytest.mark.parametrize("prefix", ["", "team", "team/a", "team/ab"])
def test_pages_and_forms_go_by_scope_and_prefix(live, place, scope, prefix):
    reaches = prefix != "team/ab"
    with Browser(live, scope, prefix=prefix) as browser:
        for address in READING:
            may = scope in {"read", "admin"}
            named = "{" in address
            status = 403 if not may and (reaches or not named) else 404 if named and not reaches else 200
            answer = browser.get(address.format(*place))
            assert answer.status_code == status, address
            if not reaches:
                assert "live.pt" not in answer.text
        for address, needed in CHANGING.items():
            if scope not in {"admin", needed}:
                answer = browser.send_form(address.format(*place))
                assert answer.status_code == (403 if reaches else 404), address
            elif not reaches:
                assert browser.send_form(address.format(*place)).status_code == 404, address


def test_pages_offer_what_the_token_may(live, place):
    directory = place[0]
    with Browser(live, "read") as browser:
        page = browser.get(f"/directories/{directory}").text
        assert "/pin" not in page
        assert "/delete" not in page
        assert "data-apply" not in page


def test_without_a_session_every_page_asks_to_sign_in_and_leads_back(live, place):
    with httpx.Client(base_url=live.url, headers=HTML) as stranger:
        for address in READING[1:]:
            path = address.format(*place)
            answer = stranger.get(path, params={"q": "a b"})
            assert answer.status_code == 303
            asked = httpx.URL(answer.headers["location"])
            assert asked.params["to"] == f"{path}?q=a+b"
        for address in CHANGING:
            assert stranger.post(address.format(*place)).headers["location"] == "/sign-in?to=/"
            assert stranger.post(address.format(*place), headers={"Accept": "*/*"}).status_code == 401


def test_refusals_are_pages_for_people_and_problems_for_programs(admin):
    answer = admin.get("/directories/no/such")
    assert answer.status_code == 404
    assert "There is no directory" in answer.text
    assert "directory_not_found" in answer.text
    assert admin.get("/directories/no/such", headers={"Accept": "*/*"}).json()["code"] == "directory_not_found"
    assert admin.get("/directories/a//b").status_code == 422


@pytest.mark.parametrize("ask", ["get", "post"])
def test_so_are_those_of_addresses_that_do_not_exist(admin, ask):
    answer = getattr(admin, ask)("/no/such/page")
    assert (answer.status_code, answer.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert "not_found" in answer.text
    answer = getattr(admin, ask)("/no/such/page", headers={"Accept": "*/*"})
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert getattr(admin, ask)("/v1/no/such").json()["code"] == "unauthorized"  # of which browsers have no token


def test_so_is_a_wrong_method(admin):
    answer = admin.post("/storage")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")
    assert "method_not_allowed" in answer.text
    answer = admin.get("/?q=" + "x" * 2000)
    assert answer.status_code == 422
    assert "q must have at most 1000 characters" in answer.text


# live


def events(browser, address, count):
    """The first so many events of a stream, after what is done once it is open."""
    with browser.stream("GET", address, timeout=30) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            if line.startswith("event: "):
                yield line.removeprefix("event: ")


def test_open_pages_are_told_of_changes_within_their_prefix(live, admin, name):
    stream = events(admin, f"/live?prefix={name}", 2)
    assert next(stream) == "open"
    save(live, f"{name}x")
    save(live, name)
    assert next(stream) == "changed"
    stream.close()


def test_open_pages_are_told_while_bytes_come_within_their_prefix(live, admin, name):
    body = {"directory": name, "name": "u.pt", "files": [{"size_bytes": 5}]}
    wanted = live.http.post("/v1/uploads", json=body, headers=live.admin).json()["missing"][0]
    streams = [events(admin, f"/live?prefix={prefix}", 2) for prefix in (name, f"{name}x")]
    assert [next(stream) for stream in streams] == ["open", "open"]
    live.http.put(wanted["url"], content=b"bytes", headers=live.admin).raise_for_status()
    assert next(streams[0]) == "moving"
    put = live.http.put(f"/v1/directories/{name}x", json={"max_checkpoints": 1}, headers=live.admin)
    assert put.status_code == 200
    assert next(streams[1]) == "changed"  # and nothing before it
    for stream in streams:
        stream.close()


def test_a_stream_ends_with_its_session(live):
    with Browser(live, "read") as browser:
        stream = events(browser, "/live", 1)
        assert next(stream) == "open"
        assert revoke(live.root, browser.token[5:15])
        save(live, "runs/after-revocation")
        assert "changed" not in list(stream)[1:]
        assert browser.get("/live").status_code in {303, 401}


def test_a_prefix_out_of_reach_tells_nothing(live):
    with Browser(live, "read", prefix="team/a") as browser:
        assert browser.get("/live?prefix=team/ab").status_code == 404


def test_two_checkpoints_are_compared(live, admin, name):
    one = save(live, name, epoch=1, metric=1)
    other = save(live, f"{name}/other", epoch=2, metric=1)
    paths = [f"{name}/{which}" for which in (one["name"], "best", "latest")]
    for query in ({"against": one["id"]}, *({"path": path} for path in paths)):
        page = admin.get(f"/checkpoints/{other['id']}/comparison", params=query).text
        assert "From checkpoint_epoch_0001.pt to checkpoint_epoch_0002.pt" in page
        assert "are not known" in page
        assert '<th scope="row">epoch</th><td>1</td><td>2</td>' in page
        assert '<th scope="row">metric</th>' not in page
    assert admin.get(f"/checkpoints/{other['id']}/comparison").status_code == 422
    assert admin.get(f"/checkpoints/{other['id']}/comparison?path={name}/none").status_code == 404
    assert admin.get(f"/checkpoints/{other['id']}/comparison?path=no/where/best").status_code == 404


def test_nothing_is_compared_with_what_is_out_of_reach(live, place):
    other = save(live, "team/ab", name="secret.pt")
    with Browser(live, "read", prefix="team/a") as browser:
        for query in ({"against": other["id"]}, {"path": "team/ab/secret.pt"}):
            answer = browser.get(f"/checkpoints/{place[1]}/comparison", params=query)
            assert answer.status_code == 404
            assert "secret.pt" not in answer.text.replace("team/ab/secret.pt", "")


def test_files_of_a_folder_are_fetched_to_their_places(live, admin, name):
    files = [{"path": path, "size_bytes": 0} for path in ("a/model.pt", "b/model.pt", "-é it.pt")]
    upload = live.http.post("/v1/uploads", json={"directory": name, "name": "f", "files": files}, headers=live.admin)
    saved = live.http.post(f"/v1/uploads/{upload.json()['id']}/commit", headers=live.admin).json()
    page = html.unescape(admin.get(f"/checkpoints/{saved['id']}").text)
    for place in ("./f/a/model.pt ", "./f/b/model.pt ", "'./f/-é it.pt' "):
        assert f"--create-dirs --output {place}" in page
