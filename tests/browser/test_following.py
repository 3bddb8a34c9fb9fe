"""Live updates: open pages follow changes without a reload."""

import pytest
from playwright.sync_api import expect

from tests.browser.watching import comes_true
from tests.support.live import LiveServer
from tests.support.shared_uploads import reserve


@pytest.fixture
def stays(page):
    """Mark the current page; the returned function tells if it was not reloaded."""

    def mark():
        page.evaluate("window.isTheSame = true")
        return lambda: page.evaluate("window.isTheSame === true")

    return mark


def live(page):
    expect(page.locator("[data-live-state]")).to_have_text("live")


def test_the_first_page_is_searched_while_typing(page, site, run, stays):
    page.goto(site.url)
    same = stays()
    shown = page.locator("#found .tree a")
    expect(shown.filter(has_text="conformer")).to_have_count(0)  # a group: its two runs are below it
    everything = shown.count()
    page.get_by_label("Search").press_sequentially("gpt 3e-4", delay=20)
    expect(shown).to_have_count(2)
    expect(page.locator("#found .summary")).to_contain_text("2 of ")
    expect(page.get_by_label("Search")).to_be_focused()
    page.get_by_label("Search").fill("nothing of that name")
    expect(page.get_by_text("No directory matches.")).to_be_visible()
    page.get_by_label("Search").fill("")
    expect(shown).to_have_count(everything)
    assert same()


def test_groups_of_the_tree_close_and_stay_closed_when_a_save_arrives(page, site, run, stays):
    page.goto(site.url)
    live(page)
    same = stays()
    group = page.locator("details").filter(has_text="vision/resnet-50/").last
    inside = page.get_by_role("link", name="cutmix")
    expect(inside).to_be_visible()
    group.locator("summary").first.click()
    expect(inside).to_be_hidden()
    before = count_of(page, run)
    run.save()
    expect_count(page, run, before + 1)
    expect(inside).to_be_hidden()
    assert same()


def test_a_save_arrives_on_the_first_page(page, site, run, stays):
    page.goto(site.url)
    live(page)
    same = stays()
    row = row_of(page, run)
    expect(row.locator(".badge.written")).to_have_text("active")
    before, course = count_of(page, run), row.locator("polyline").get_attribute("points")
    run.save()
    expect_count(page, run, before + 1)
    expect(row.locator("polyline")).not_to_have_attribute("points", course)
    assert same()


def test_a_save_arrives_while_a_search_is_on(page, site, run, stays):
    page.goto(site.url)
    page.get_by_label("Search").fill(run.directory)
    expect(page.locator("#found .tree a")).to_have_count(1)
    live(page)
    same = stays()
    before = count_of(page, run)
    run.save()
    expect_count(page, run, before + 1)
    expect(page.locator("#found .tree a")).to_have_count(1)
    expect(page.get_by_label("Search")).to_have_value(run.directory)
    assert same()


def row_of(page, run):
    return page.locator(".cells", has=page.locator(f'a[title="{run.directory}"]'))


def count_of(page, run):
    return int(row_of(page, run).locator(".number").first.text_content().split()[-1].removeprefix("checkpoints"))


def expect_count(page, run, count):
    expect(row_of(page, run).locator(".number").first).to_have_text(f"checkpoints{count}")


def test_a_save_arrives_on_the_page_of_its_directory(page, site, run, stays):
    page.goto(site.directory(run.directory))
    live(page)
    same = stays()
    rows = page.locator("#checkpoints tbody tr")
    before = rows.count()
    saved = run.save()
    expect(rows).to_have_count(before + 1)
    expect(rows.first).to_contain_text(saved["name"])
    expect(rows.first.locator(".reason-newest")).to_be_visible()
    expect(page.locator("#facts")).to_contain_text(f"{before + 1}, ")
    assert same()


def test_input_stays_when_a_save_arrives(page, site, new_run, stays):
    """The policy form, the chosen order, an open dialog and the focus survive."""
    run = new_run(3)
    page.goto(site.directory(run.directory))
    live(page)
    same = stays()
    number = page.get_by_label("Keep last: number")
    number.fill("2")
    rows = page.locator("#checkpoints tbody tr")
    button = rows.last.get_by_role("button", name="Delete")
    button.click()
    asked = page.locator("[popover]:popover-open")
    expect(asked).to_contain_text(run.saved[0]["name"])
    run.save()
    expect(rows).to_have_count(4)
    expect(asked).to_contain_text(run.saved[0]["name"])
    expect(number).to_have_value("2")
    page.keyboard.press("Escape")
    expect(asked).to_have_count(0)
    button.focus()
    run.save()
    expect(rows).to_have_count(5)
    expect(rows.last.get_by_role("button", name="Delete")).to_be_focused()
    assert same()


def test_the_page_of_a_checkpoint_follows_changes(page, site, new_run, stays):
    run = new_run(2)
    checkpoint = site.found(run.directory, run.saved[0]["name"])
    page.goto(f"{site.url}/checkpoints/{checkpoint['id']}")
    live(page)
    same = stays()
    site.server.http.patch(f"/v1/checkpoints/{checkpoint['id']}", json={"pinned": True}).raise_for_status()
    expect(page.get_by_role("button", name="Unpin")).to_be_visible()
    site.server.http.patch(f"/v1/checkpoints/{checkpoint['id']}", json={"pinned": False}).raise_for_status()
    expect(page.get_by_role("button", name="Pin")).to_be_visible()
    site.server.http.delete(f"/v1/checkpoints/{checkpoint['id']}").raise_for_status()
    expect(page.locator(".notice.gone")).to_contain_text("deleted by a user")
    assert same()


def test_the_storage_page_follows_saves_and_uploads(page, site, run, stays):
    page.goto(f"{site.url}/storage")
    live(page)
    same = stays()
    row = page.locator(f'tr[data-directory="{run.directory}"]')
    expect(row.locator("td").nth(1)).to_have_text(str(len(run.saved)))
    run.save()
    expect(row.locator("td").nth(1)).to_have_text(str(len(run.saved)))
    with site.upload(run.directory, "half.pt", size_bytes=4_000_000, arrived_bytes=1_000_000):
        expect(page.locator(".uploads li")).to_contain_text("976.6 KiB of 3.8 MiB")
    expect(page.locator(".uploads li")).to_have_count(0)
    assert comes_true(page, "window.holdfastPlots['storage-plot'].data[0].length > 1")
    assert same()


def test_the_storage_page_follows_the_writers_of_a_shared_upload(open_context, page, site, run, stays, tmp_path):
    page.goto(f"{site.url}/storage")
    live(page)
    same = stays()
    ranks = [f"rank-{number}" for number in range(4)]
    shared = reserve(site.server.http, run.directory, writers=ranks, attempt=2)
    for number, rank in enumerate(ranks[:2]):
        shared.put(rank, {f"shard-{number}.bin": bytes(100_000 * (number + 1))})
    shared.declare(ranks[2], {"shard-2.bin": bytes(300_000)})
    upload = page.locator(".uploads > li")
    expect(upload).to_contain_text("attempt 2; waits for rank-0, rank-1, rank-2, rank-3")
    expect(upload.locator(".writers li")).to_have_count(3)
    shared.ready(ranks[0])
    expect(upload.locator('[data-writer="rank-0"] .badge')).to_have_text("ready")
    expect(upload.locator('[data-writer="rank-2"]')).to_contain_text("293.0 KiB missing")
    for scheme in ("light", "dark"):
        other = open_context(color_scheme=scheme).new_page()
        other.goto(f"{site.url}/storage")
        expect(other.locator(".writers li")).to_have_count(3)
        other.locator("#storage-uploads").screenshot(path=tmp_path / f"writers-{scheme}.png", animations="disabled")
    for rank in ranks:
        shared.put(rank, {f"more-{rank}": b"m"})
        shared.put(ranks[2], {"shard-2.bin": bytes(300_000)})
        shared.ready(rank)
    expect(upload).to_contain_text("all writers are ready")
    shared.commit().raise_for_status()
    expect(upload).to_have_count(0)
    site.server.http.delete(f"/v1/checkpoints/{shared.id}").raise_for_status()
    assert same()


def test_a_page_shows_a_lost_connection_and_catches_up(open_context, tmp_path, watch):
    watch.allow(
        r"ERR_|status of 50\d|elsewhere: |htmx:error"
    )  # the server stops, and it is not the one of the other tests
    with LiveServer(tmp_path / "root") as server:
        server.save("runs/a", name="a.pt")
        page = open_context(signed_in=False).new_page()
        page.goto(f"{server.url}/directories/runs/a")
        live(page)
        page.evaluate("window.isTheSame = true")
        server.stop()
        expect(page.locator("[data-live-state]")).to_have_text("disconnected")
        page.get_by_label("Keep last: number").fill("1")
        expect(page.locator("#preview")).to_contain_text("The server did not answer.")
        server.start()
        server.save("runs/a", name="b.pt")
        expect(page.locator("[data-live-state]")).to_have_text("live")
        expect(page.locator("#checkpoints tbody tr")).to_have_count(2)
        expect(page.locator("#preview")).to_contain_text("This policy keeps 1")
        assert page.evaluate("window.isTheSame === true")
