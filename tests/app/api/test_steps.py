"""Steps: names, lists, filters, the policy's interval, changes, and a directory whose steps go beyond an epoch."""

import json

import pytest


def refusal(answer):
    return answer.status_code, answer.json()["code"]


def listed(server, directory, **query):
    found = server.http.get("/v1/checkpoints", params={"directory": directory, **query}).json()["checkpoints"]
    return [checkpoint["step"] for checkpoint in found]


@pytest.mark.parametrize(
    ("facts", "name"),
    [
        pytest.param({"step": 12000}, "checkpoint_step_00012000.pt", id="a step"),
        pytest.param({"epoch": 3, "step": 0}, "checkpoint_epoch_0003_step_00000000.pt", id="an epoch and a step"),
        pytest.param({"step": 7, "kind": "best"}, "best_step_00000007.pt", id="a best one"),
    ],
)
def test_a_step_names_a_checkpoint(server, directory, facts, name):
    saved = server.save(directory, **facts)
    assert (saved["name"], saved["step"]) == (name, facts["step"])
    manifest = json.loads((server.root / directory / ".holdfast" / f"{name}.json").read_text())
    assert manifest["checkpoint"]["facts"]["step"] == facts["step"]


def test_two_steps_of_one_epoch_are_two_checkpoints(server, directory):
    first, second = (server.save(directory, data, epoch=1, step=step) for step, data in ((10, b"1"), (20, b"2")))
    again = server.save(directory, b"3", epoch=1, step=20)
    assert again["removed"] == [second["name"]]
    assert server.names(directory) == [first["name"], second["name"]]


def test_checkpoints_are_ordered_and_filtered_by_step(server, directory):
    for step in (20, 5, None, 300):
        server.save(directory, f"{step}".encode(), name=f"{step}.pt", **({} if step is None else {"step": step}))
    assert listed(server, directory, order_by="step") == [5, 20, 300, None]
    assert listed(server, directory, order_by="-step") == [300, 20, 5, None]
    assert listed(server, directory, step_min=20) == [20, 300]
    assert listed(server, directory, step_max=20, order_by="step") == [5, 20]
    first = server.http.get("/v1/checkpoints", params={"directory": directory, "order_by": "step", "page_size": 2})
    assert listed(server, directory, order_by="step", page_token=first.json()["next_page_token"]) == [300, None]


def test_a_policy_keeps_an_interval_of_steps(server, directory):
    for step in range(0, 60, 10):
        server.save(directory, f"{step}".encode(), step=step, max_checkpoints=1, keep_every_steps=20)
    assert listed(server, directory) == [0, 20, 40, 50]
    judged = server.http.post("/v1/prune", json={"directory": directory, "dry_run": True}).json()
    reasons = {
        verdict["checkpoint"]["step"]: [reason["text"] for reason in verdict["reasons"]]
        for verdict in judged["directories"][0]["verdicts"]
    }
    assert reasons[20] == ["every 20 steps"]
    found = server.http.get(f"/v1/directories/{directory}").json()["policy"]
    assert (found["keep_every_steps"], found["keep_every_epochs"]) == (20, None)


def test_an_operator_owns_the_interval_that_they_set(server, directory):
    server.http.put(f"/v1/directories/{directory}", json={"max_checkpoints": 1, "keep_every_steps": 30})
    for step in range(0, 70, 10):
        server.save(directory, f"{step}".encode(), step=step, keep_every_steps=20)
    assert listed(server, directory) == [0, 30, 60]


def test_a_step_can_be_corrected(server, directory):
    saved = server.save(directory, step=5)
    answer = server.http.patch(f"/v1/checkpoints/{saved['id']}", json={"step": 6})
    assert (answer.json()["step"], answer.json()["name"]) == (6, saved["name"])
    assert listed(server, directory, step_min=6) == [6]


@pytest.mark.parametrize("query", [{"step": -1}, {"step": 1.5}, {"step": 2**53}, {"keep_every_steps": 0}], ids=repr)
def test_what_is_no_step_is_refused(server, directory, query):
    answer = server.http.post("/v1/checkpoints", params={"directory": directory, **query}, content=b"x")
    assert refusal(answer) == (422, "invalid_request")
    assert server.http.get(f"/v1/directories/{directory}").status_code == 404


def test_steps_survive_a_lost_catalog(own_server):
    server = own_server
    saved = server.save("runs/a", epoch=1, step=12000, max_checkpoints=2, keep_every_steps=1000)
    server.stop()
    for file in (server.root / ".holdfast").glob("catalog.db*"):
        file.unlink()
    server.start()
    found = server.http.get("/v1/checkpoints/latest", params={"directory": "runs/a"}).json()
    assert (found["id"], found["step"]) == (saved["id"], 12000)
    assert server.http.get("/v1/directories/runs/a").json()["policy"]["keep_every_steps"] == 1000
