"""Manual retention: checkpoints that no policy removes or counts, in small directories and in those beyond one read."""

import pytest

from app.catalog.reports import judgement

MANUAL = {"retention": "manual"}


def staying(server, directory):
    found = server.http.get("/v1/checkpoints", params={"directory": directory}).json()["checkpoints"]
    return [checkpoint["epoch"] for checkpoint in found]


def reasons(server, directory):
    judged = server.http.post("/v1/prune", json={"directory": directory, "dry_run": True}).json()
    return {
        verdict["checkpoint"]["epoch"]: [reason["text"] for reason in verdict["reasons"]]
        for verdict in judged["directories"][0]["verdicts"]
    }


def save(server, directory, *epochs, **query):
    return [server.save(directory, f"{epoch}".encode(), epoch=epoch, **query) for epoch in epochs]


@pytest.fixture(params=[0, judgement.FEW + 8], ids=["few", "many"])
def crowded(request, server, directory):
    """A directory with a number of manual checkpoints that is read whole, or that goes by its indexes."""
    save(server, directory, *range(1000, 1000 + request.param), metric=-1, **MANUAL)
    return directory, list(range(1000, 1000 + request.param))


def test_manual_ones_stay_and_take_no_place(server, crowded):
    directory, before = crowded
    save(server, directory, 1, 2, metric=0.5, **MANUAL)
    save(server, directory, *range(3, 8), metric=1, max_checkpoints=2, max_best_checkpoints=1)
    save(server, directory, 8, metric=0.1, **MANUAL)
    assert staying(server, directory) == [*before, 1, 2, 3, 6, 7, 8]
    found = reasons(server, directory)
    assert found[7] == ["newest", "last 1 of 2"]
    assert found[3] == ["best 1 of 1"]
    assert found[1] == found[8] == ["manual"]
    save(server, directory, 9, metric=2)
    assert staying(server, directory) == [*before, 1, 2, 3, 7, 8, 9]


def test_the_owner_may_hand_a_checkpoint_over_to_the_policy_and_back(server, crowded):
    directory, before = crowded
    (first,) = save(server, directory, 1, **MANUAL)
    save(server, directory, 2, 3, max_checkpoints=2, max_best_checkpoints=0)
    assert staying(server, directory) == [*before, 1, 2, 3]
    answer = server.http.patch(f"/v1/checkpoints/{first['id']}", json={"retention": "policy"})
    assert answer.json()["retention"] == "policy"
    (kept,) = save(server, directory, 4)
    assert staying(server, directory) == [*before, 3, 4]
    server.http.patch(f"/v1/checkpoints/{kept['id']}", json=MANUAL).raise_for_status()
    save(server, directory, 5)
    assert staying(server, directory) == [*before, 3, 4, 5]
    save(server, directory, 6)
    assert staying(server, directory) == [*before, 4, 5, 6]


def test_manual_ones_are_latest_and_best_all_the_same(server, directory):
    save(server, directory, 1, metric=0.5)
    save(server, directory, 2, metric=0.1, **MANUAL)
    for which in ("latest", "best"):
        found = server.http.get(f"/v1/checkpoints/{which}", params={"directory": directory}).json()
        assert (found["epoch"], found["retention"]) == (2, "manual")


def test_the_listing_is_filtered_by_retention(server, directory):
    save(server, directory, 1, 2)
    save(server, directory, 3, **MANUAL)
    for retention, epochs in (("manual", [3]), ("policy", [1, 2])):
        query = {"directory": directory, "retention": retention}
        found = server.http.get("/v1/checkpoints", params=query).json()["checkpoints"]
        assert [checkpoint["epoch"] for checkpoint in found] == epochs


def test_a_manual_one_can_be_deleted_and_cleared(server, directory):
    first, _ = save(server, directory, 1, 2, **MANUAL)
    server.http.delete(f"/v1/checkpoints/{first['id']}").raise_for_status()
    assert staying(server, directory) == [2]
    assert server.http.delete(f"/v1/directories/{directory}").json()["removed_count"] == 1


def test_a_manual_one_stays_after_the_catalog_was_lost(own_server):
    server = own_server
    save(server, "runs/a", 1, **MANUAL)
    save(server, "runs/a", 2, max_checkpoints=1)
    server.stop()
    for file in (server.root / ".holdfast").glob("catalog.db*"):
        file.unlink()
    server.start()
    save(server, "runs/a", 3, 4)
    assert staying(server, "runs/a") == [1, 4]


def test_another_retention_is_refused(server, directory):
    query = {"directory": directory, "retention": "forever"}
    answer = server.http.post("/v1/checkpoints", params=query, content=b"x")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


def test_the_same_content_again_leaves_it_manual(server, directory):
    (first,) = save(server, directory, 1, **MANUAL)
    (again,) = save(server, directory, 1)
    assert (again["id"], again["retention"]) == (first["id"], "manual")
    assert server.save(directory, b"other", epoch=1)["retention"] == "policy"
