"""Contents of the pages, over a socket and without JavaScript."""

import html
import json
import re

from tests.app.dashboard.signed_in import save

HOSTILE = "<script>alert(1)</script>&\"'"


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


def test_a_directory_shows_reasons_and_the_next_removals(live, admin, name):
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


def test_user_text_is_never_markup(live, admin, name):
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


def test_snippets_download_the_checkpoint(live, admin, name):
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


# history


def test_the_metric_series_is_what_was_saved(live, admin, name):
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


def test_files_of_a_folder_are_fetched_to_their_places(live, admin, name):
    files = [{"path": path, "size_bytes": 0} for path in ("a/model.pt", "b/model.pt", "-é it.pt")]
    upload = live.http.post("/v1/uploads", json={"directory": name, "name": "f", "files": files}, headers=live.admin)
    saved = live.http.post(f"/v1/uploads/{upload.json()['id']}/commit", headers=live.admin).json()
    page = html.unescape(admin.get(f"/checkpoints/{saved['id']}").text)
    for place in ("./f/a/model.pt ", "./f/b/model.pt ", "'./f/-é it.pt' "):
        assert f"--create-dirs --output {place}" in page
