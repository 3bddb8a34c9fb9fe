"""Without JavaScript: every page still works."""

import pytest
from playwright.sync_api import expect


@pytest.fixture
def page(open_context):
    return open_context(java_script_enabled=False).new_page()


def test_signing_in_and_searching(open_context, site):
    page = open_context(signed_in=False, java_script_enabled=False).new_page()
    page.goto(site.url)
    page.get_by_label("Token").fill(site.token)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_label("Search").fill("gpt warm")
    page.get_by_role("button", name="Search").click()
    expect(page.locator("#found .tree a")).to_have_count(1)
    page.locator("#found .tree a").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("language/gpt-small/lr-3e-4-warm")
    expect(page.locator("noscript p")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Token")).to_be_visible()


def test_the_table_is_ordered_and_shows_removed_ones(page, site, run):
    page.goto(site.directory("language/gpt-small/lr-1e-4"))
    page.get_by_label("show removed").check()
    page.get_by_label("Order").select_option("best")
    page.get_by_role("button", name="Show").click()
    rows = page.locator("#checkpoints tbody tr")
    expect(rows).to_have_count(50)
    metrics = [float(row.locator("td").nth(3).text_content()) for row in rows.all()]
    assert metrics == sorted(metrics)
    page.get_by_role("link", name="Next page").click()
    expect(page.get_by_role("link", name="First page")).to_be_visible()
    assert float(rows.first.locator("td").nth(3).text_content()) >= metrics[-1]


def test_a_policy_is_seen_and_applied(page, site, new_run):
    run = new_run(4)
    page.goto(site.directory(run.directory))
    group = page.get_by_role("group", name="Keep last")
    group.get_by_label("this number:").check()
    group.get_by_role("spinbutton").fill("1")
    page.get_by_role("group", name="Keep best").get_by_label("this number:").check()
    page.get_by_role("group", name="Keep best").get_by_role("spinbutton").fill("0")
    page.get_by_role("button", name="Preview").click()
    expect(page.locator("tr.going")).to_have_count(3)
    assert len(site.names(run.directory)) == 4
    page.go_back()
    page.get_by_role("button", name="Apply").click()
    page.get_by_role("button", name="Remove them now").click()
    expect(page.get_by_text("3 checkpoints removed.")).to_be_visible()
    assert site.names(run.directory) == [run.saved[-1]["name"]]


def test_pinned_tagged_deleted_and_restored(page, site, new_run):
    run = new_run(2)
    name = run.saved[0]["name"]
    page.goto(site.checkpoint(run.directory, name))
    page.get_by_role("button", name="Pin").click()
    assert site.found(run.directory, name)["pinned"]
    page.get_by_role("button", name="Unpin").click()
    page.get_by_label("Tags").fill("kept")
    page.get_by_role("button", name="Set tags").click()
    assert site.found(run.directory, name)["tags"] == ["kept"]
    page.get_by_label("Search").fill("head bias")
    page.get_by_role("button", name="Search").click()
    expect(page.locator("#found .summary")).to_contain_text(" of ")
    page.get_by_role("button", name="Delete").click()  # popovers work without scripts
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    assert name not in site.names(run.directory)
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_text(f"{name} is restored")).to_be_visible()
    assert name in site.names(run.directory)


def test_checkpoints_are_compared_and_storage_is_shown(page, site, run):
    page.goto(site.checkpoint(run.directory, run.saved[4]["name"]))
    page.get_by_role("combobox", name="With").select_option(run.saved[0]["name"])
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(f"From {run.saved[0]['name']} to {run.saved[4]['name']}")
    page.get_by_label("Search").fill("head")
    page.get_by_role("button", name="Search").click()
    expect(page.locator("#found tbody tr")).to_have_count(2)
    page.get_by_role("link", name="Storage").click()
    expect(page.locator('tr[data-directory="language/gpt-small/lr-3e-4"]')).to_contain_text("GiB")
    page.get_by_role("link", name="last day").click()
    expect(page.get_by_role("link", name="last day")).to_have_attribute("aria-current", "true")
