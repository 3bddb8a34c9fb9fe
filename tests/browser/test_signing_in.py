"""Signing in and out, in a browser."""

from playwright.sync_api import expect

from tests.support.tokens import mint, revoke


def test_a_wrong_token_is_reported_and_a_right_one_leads_to_the_requested_page(open_context, site, run, watch):
    watch.allow(r"status of 401")  # the browser logs the status of the page
    page = open_context(signed_in=False).new_page()
    wanted = site.directory(run.directory)
    page.goto(wanted)
    assert page.url.startswith(f"{site.url}/sign-in?to=")
    token = page.get_by_label("Token")
    expect(token).to_be_focused()
    token.fill("hfst_" + "0" * 59)
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("no such token")
    page.get_by_label("Token").fill(site.token)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(run.directory)
    assert page.url == wanted


def test_signing_out_leads_back_and_the_pages_are_closed(open_context, site):
    page = open_context(site.session(site.token)).new_page()
    page.goto(site.url)
    page.get_by_role("button", name="Sign out").click()
    expect(page).to_have_url(f"{site.url}/sign-in")
    page.goto(site.url)
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()


def test_a_read_token_is_offered_no_changes(open_context, site, run):
    page = open_context(site.session(mint(site.server.root, "read"))).new_page()
    page.goto(site.directory(run.directory))
    expect(page.locator("tr[id^=row]").first).to_be_visible()
    for name in ("Pin", "Delete", "Apply"):
        expect(page.get_by_role("button", name=name)).to_have_count(0)
    expect(page.get_by_text("needs a token with the scope admin")).to_be_visible()
    page.goto(site.checkpoint(run.directory, run.saved[0]["name"]))
    for name in ("Pin", "Delete", "Set tags"):
        expect(page.get_by_role("button", name=name)).to_have_count(0)


def test_a_page_that_is_open_when_its_token_is_revoked_asks_for_one(open_context, site, run, watch):
    watch.allow("status of 401")  # of requests before the page is left
    token = mint(site.server.root, "read")
    page = open_context(site.session(token)).new_page()
    page.goto(site.directory(run.directory))
    expect(page.locator("[data-live-state]")).to_have_text("live")
    assert revoke(site.server.root, token[5:15])
    run.save()
    expect(page.get_by_label("Token")).to_be_visible()
    assert page.url.startswith(f"{site.url}/sign-in")
