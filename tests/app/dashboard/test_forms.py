"""Forms of the pages: policy, pin, tags, deletion and restoration, over a socket and without JavaScript."""

import html
import re

import httpx
import pytest

from app.core.models import LIMITS
from tests.app.dashboard.signed_in import facts, save

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
def test_an_invalid_number_is_reported_and_not_applied(live, admin, name, number):
    save(live, name)
    fields = policy(max_checkpoints=number)
    assert "Keep last: enter a whole number of at least 0" in admin.get(f"/previews/{name}", params=fields).text
    answer = admin.send_form(f"/policies/{name}", **fields)
    assert answer.status_code == 422
    assert "a whole number of at least 0" in answer.text


# pin, tag, delete, restore


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
def test_missing_form_fields_change_nothing(live, admin, name, body):
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


def test_notices_are_limited_to_their_directory(live, admin, name):
    saved, page = save(live, name), f"/directories/{name}"
    other = save(live, f"{name}/other")
    for checkpoint_id in (other["id"], "unknown"):
        answer = admin.get(page, params={"deleted": checkpoint_id})
        assert answer.status_code == 200
        assert "is deleted" not in answer.text
    assert saved["name"] in admin.get(page).text
