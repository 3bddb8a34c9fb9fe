"""Keyboard: every action is possible without a pointer, and the focus is visible."""

import pytest
from playwright.sync_api import expect

LIMIT = 120
"""The most presses of Tab to any element."""


@pytest.fixture
def keys(page):
    """A keyboard; ``go(locator)`` presses Tab until the element has the focus."""

    class Keys:
        def go(self, target):
            element = target.element_handle()
            for _ in range(LIMIT):
                page.keyboard.press("Tab")
                if element.evaluate("(element) => element === document.activeElement"):
                    assert element.evaluate(_IS_SEEN), "one cannot see that it has the focus"
                    return
            raise AssertionError(f"{target} is not reached by Tab")

        def press(self, key):
            page.keyboard.press(key)

    return Keys()


_IS_SEEN = """(element) => {
  const style = getComputedStyle(element);
  return element.matches(":focus-visible") && style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
}"""


def test_the_first_stop_leads_past_what_all_pages_have(page, site, keys):
    page.goto(site.url)
    keys.go(page.get_by_role("link", name="Skip to the content"))
    expect(page.locator(".skip")).to_be_in_viewport()
    keys.press("Enter")
    expect(page.locator("main")).to_be_focused()
    keys.go(page.get_by_label("Search"))


def test_a_group_of_the_tree_is_opened_and_closed(page, site, keys):
    page.goto(site.url)
    keys.go(page.locator("summary").first)
    inside = page.locator("details").first.locator("a").first
    expect(inside).to_be_visible()
    keys.press("Enter")
    expect(inside).to_be_hidden()
    keys.press("Space")
    expect(inside).to_be_visible()


def test_pin_delete_and_undo(page, site, keys, new_run):
    run = new_run(2)
    name = run.saved[0]["name"]
    page.goto(site.directory(run.directory))
    keys.go(page.get_by_role("button", name=f"Pin {name}"))
    keys.press("Enter")
    keys.go(page.get_by_role("button", name=f"Unpin {name}"))
    keys.press("Space")
    keys.go(page.get_by_role("button", name=f"Delete {name}"))
    keys.press("Enter")
    asked = page.get_by_role("dialog")
    expect(asked).to_be_visible()
    keys.press("Escape")
    expect(asked).to_be_hidden()
    expect(page.get_by_role("button", name=f"Delete {name}")).to_be_focused()
    keys.press("Enter")
    keys.go(asked.get_by_role("button", name="Delete"))
    keys.press("Enter")
    keys.go(page.get_by_role("button", name="Undo"))
    assert name not in site.names(run.directory)
    keys.press("Enter")
    expect(page.get_by_text(f"{name} is restored")).to_be_visible()
    assert name in site.names(run.directory)


def test_a_policy_is_previewed_and_applied(page, site, keys, new_run):
    run = new_run(4)
    page.goto(site.directory(run.directory))
    keys.go(page.get_by_label("Keep last: number"))
    page.keyboard.type("1")
    keys.go(page.get_by_label("Keep best: number"))
    page.keyboard.type("1")
    expect(page.locator("#preview tr.going")).not_to_have_count(0)
    keys.go(page.get_by_role("button", name="Apply"))
    keys.press("Enter")
    keys.go(page.get_by_role("button", name="Remove them now"))
    keys.press("Space")
    expect(page.get_by_text("removed.")).to_be_visible()
    assert 1 <= len(site.names(run.directory)) <= 2


def test_the_charts_values_are_chosen_and_a_checkpoint_tagged(page, site, keys, run):
    page.goto(site.directory(run.directory))
    keys.go(page.get_by_label("Over"))
    keys.go(page.get_by_label("accuracy"))
    keys.press("Space")
    expect(page.locator("#history")).to_have_attribute(
        "aria-label", f"Chart of metric: {len(run.saved)}, accuracy: {len(run.saved)}"
    )
    page.goto(site.checkpoint(run.directory, run.saved[1]["name"]))
    keys.go(page.get_by_label("Tags"))
    page.keyboard.type("by keyboard")
    keys.press("Enter")
    expect(page.get_by_label("Tags")).to_have_value("by keyboard")
    assert site.found(run.directory, run.saved[1]["name"])["tags"] == ["by keyboard"]
