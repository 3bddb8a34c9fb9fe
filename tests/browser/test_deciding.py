"""Forms: policy, pins, tags, deletion and restoration."""

import re

import pytest
from playwright.sync_api import expect

LAST = "Keep last: number"


def badges(page):
    return page.locator("#preview tbody .badge.gone")


def test_a_policy_is_previewed_before_it_applies(page, site, new_run):
    run = new_run(6)
    page.goto(site.directory(run.directory))
    before = site.names(run.directory), site.policy(run.directory)
    page.get_by_label(LAST).fill("2")
    page.get_by_label("Keep best: number").fill("1")
    ranked = sorted(site.checkpoints(run.directory), key=lambda each: each["metric"])
    staying = {*before[0][-2:], ranked[0]["name"]}
    expect(badges(page)).to_have_count(6 - len(staying))
    preview = page.locator("#preview")
    expect(preview).to_contain_text(f"keeps {len(staying)} ")
    gone = {row.locator("td").first.text_content() for row in preview.locator("tr.going").all()}
    assert gone == set(before[0]) - staying
    page.get_by_label(LAST).fill("4")
    expect(badges(page)).not_to_have_count(6 - len(staying))
    page.get_by_label(LAST).fill("2")
    expect(badges(page)).to_have_count(6 - len(staying))
    assert (site.names(run.directory), site.policy(run.directory)) == before

    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_text("The policy is in force.")).to_be_visible()
    expect(page.locator("#facts")).to_contain_text("keeps the last 2, the best 1")
    assert site.policy(run.directory)["max_checkpoints"] == 2
    assert site.names(run.directory) == before[0], "it applies at the next save or prune"
    page.get_by_role("button", name="Remove them now").click()
    expect(page.get_by_text(f"{6 - len(staying)} checkpoints removed.")).to_be_visible()
    assert set(site.names(run.directory)) == staying


def test_what_the_next_save_removes_is_what_it_then_removes(page, site, new_run):
    run = new_run(4, max_checkpoints=2, max_best_checkpoints=0)
    page.goto(site.directory(run.directory))
    told = page.locator("#next a").all_text_contents()
    assert told == [run.saved[-2]["name"]]
    before = site.names(run.directory)
    new = run.save()["name"]
    assert set(before) - set(site.names(run.directory)) == set(told)
    expect(page.locator("#checkpoints tbody tr").first).to_contain_text(new)
    expect(page.locator("#next a")).to_have_text([run.saved[-2]["name"]])


def test_pinned_tagged_deleted_and_restored(page, site, new_run):
    run = new_run(3)
    first = run.saved[0]["name"]
    page.goto(site.directory(run.directory))
    row = page.locator("#checkpoints tr", has=page.get_by_role("link", name=first))

    row.get_by_role("button", name="Pin").click()
    expect(row.locator(".reason-pinned")).to_be_visible()
    expect(row.get_by_role("button", name="Delete")).to_be_disabled()
    assert site.found(run.directory, first)["pinned"]
    row.get_by_role("button", name="Unpin").click()
    expect(row.locator(".reason-pinned")).to_have_count(0)
    assert not site.found(run.directory, first)["pinned"]

    row.get_by_role("link", name=first).click()
    page.get_by_label("Tags").fill("release, to publish")
    page.get_by_role("button", name="Set tags").click()
    expect(page.get_by_label("Tags")).to_have_value("release, to publish")
    assert site.found(run.directory, first)["tags"] == ["release", "to publish"]
    page.go_back()
    page.goto(site.directory(run.directory))
    expect(row.locator(".badge.tag")).to_have_text(["release", "to publish"])

    row.get_by_role("button", name="Delete").click()
    asked = page.get_by_role("dialog", name=f"Delete {first}")
    expect(asked).to_contain_text("It can be restored for 1 h.")
    page.keyboard.press("Escape")
    expect(asked).to_be_hidden()
    row.get_by_role("button", name="Delete").click()
    asked.get_by_role("button", name="Cancel").click()
    expect(asked).to_be_hidden()
    assert first in site.names(run.directory)
    row.get_by_role("button", name="Delete").click()
    asked.get_by_role("button", name="Delete").click()
    expect(page.get_by_text(f"{first} is deleted.")).to_be_visible()
    assert first not in site.names(run.directory)
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_text(f"{first} is restored")).to_be_visible()
    assert first in site.names(run.directory)
    expect(page).not_to_have_url(re.compile("restored="))  # the script has taken the notice out of the address
    page.reload()
    expect(row).to_be_visible()
    expect(page.get_by_text(f"{first} is restored")).to_be_hidden()  # the notice is shown once


def test_a_removed_one_is_restored_from_the_list_and_from_its_own_page(page, site, new_run):
    run = new_run(3)
    first, second = (site.found(run.directory, each["name"]) for each in run.saved[:2])
    for each in (first, second):
        site.server.http.delete(f"/v1/checkpoints/{each['id']}").raise_for_status()
    page.goto(site.directory(run.directory))
    rows = page.locator("#checkpoints tbody tr")
    expect(rows).to_have_count(1)
    page.get_by_label("show removed").check()
    expect(rows).to_have_count(3)
    expect(page).to_have_url(re.compile("removed=true"))
    expect(page.locator("tr.removed")).to_have_count(2)
    row = page.locator(f"#row-{first['id']}")
    expect(row.locator(".badge.gone")).to_have_text("deleted")
    row.get_by_role("button", name="Restore").click()
    expect(page.locator("tr.removed")).to_have_count(1)
    page.goto(f"{site.url}/checkpoints/{second['id']}")
    page.get_by_role("button", name="Restore").click()
    expect(page.get_by_role("button", name="Pin")).to_be_visible()
    assert len(site.names(run.directory)) == 3


def test_the_order_of_the_table_is_chosen(page, site, run):
    page.goto(site.directory(run.directory))
    page.get_by_label("Order").select_option("best")
    ranked = sorted(site.checkpoints(run.directory), key=lambda each: each["metric"])
    expect(page.locator("#checkpoints tbody tr td:first-child a")).to_have_text([each["name"] for each in ranked])
    expect(page).to_have_url(re.compile("order=best"))
    run.save()
    expect(page.locator("#checkpoints tbody tr")).to_have_count(len(ranked) + 1)
    expect(page.get_by_label("Order")).to_have_value("best")


@pytest.mark.parametrize("form", ["delete", "pin"])
def test_a_refused_form_leads_to_an_error_page(page, site, new_run, watch, form):
    watch.allow("status of 4")
    run = new_run(1)
    page.route("**", _keep_stale)  # another user changes it, and the page does not know yet
    page.goto(site.checkpoint(run.directory, run.saved[0]["name"]))
    checkpoint = site.found(run.directory, run.saved[0]["name"])
    if form == "delete":
        page.get_by_role("button", name="Delete").click()
        site.server.http.patch(f"/v1/checkpoints/{checkpoint['id']}", json={"pinned": True}).raise_for_status()
        page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    else:
        site.server.http.delete(f"/v1/checkpoints/{checkpoint['id']}").raise_for_status()
        page.get_by_role("button", name="Pin").click()
    expect(page.get_by_role("alert")).to_be_visible()
    expect(page.get_by_text("Nothing was changed.")).to_be_visible()


def _keep_stale(route):
    """Answer refreshes of a page with nothing new, and pass other requests on."""
    if "holdfast-refresh" in route.request.headers:
        route.fulfill(status=204)
    else:
        route.continue_()
