"""The page of a checkpoint: search among its tensors, and comparison with another one."""

import torch
from playwright.sync_api import expect


def test_its_tensors_are_those_that_were_saved(page, site, run):
    name = run.saved[0]["name"]
    state = torch.load(site.server.root / run.directory / name)
    weights = state["model"]
    page.goto(site.checkpoint(run.directory, name))
    found = page.locator("#found .cells:not(.group)")
    everything = found.count()
    assert everything >= len(weights)
    page.locator("#found").get_by_text("embedding.weight").first.wait_for()
    page.get_by_label("Search").press_sequentially("layers.1 norm", delay=20)
    wanted = [key for key in weights if "layers.1." in key and "norm" in key]
    expect(found).to_have_count(len(wanted))
    expect(page.locator("#found .summary")).to_contain_text(f"{len(wanted)} of {everything} tensors")
    assert {shape.strip() for shape in found.locator(":scope > :nth-child(3)").all_text_contents()} == {"32"}


def test_a_comparison_lists_the_tensors_that_training_changed(page, site, new_run):
    """The embedding is frozen; from the third epoch on, the state also has an average of the head."""
    run = new_run(4)
    first, last = run.saved[0]["name"], run.saved[-1]["name"]
    before, after = (torch.load(site.server.root / run.directory / name)["model"] for name in (first, last))
    page.goto(site.checkpoint(run.directory, last))
    page.get_by_role("combobox", name="With").select_option(first)
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(f"From {first} to {last}")
    rows = page.locator("#found tbody tr")
    told = {row.locator("td").first.text_content(): row.locator(".badge").text_content() for row in rows.all()}
    changed = {f"model.{key}" for key in before if not torch.equal(before[key], after[key])}
    assert {name for name, change in told.items() if name.startswith("model.")} == changed
    assert {told[name] for name in changed} == {"changed"}
    assert {name: change for name, change in told.items() if change == "added"} == {
        "average.weight": "added",
        "average.bias": "added",
    }
    page.get_by_label("Search").press_sequentially("embedding", delay=20)
    expect(page.get_by_text("No tensor matches.")).to_be_visible()
    page.get_by_label("show unchanged tensors").check()
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("model.embedding.weight")
    expect(rows.locator(".badge")).to_have_text("same")


def test_checkpoints_of_two_directories_are_compared_by_their_paths(page, site, run, new_run):
    other = new_run(1)
    page.goto(site.checkpoint(run.directory, run.saved[1]["name"]))
    page.get_by_label("or with").fill(f"{other.directory}/{other.saved[0]['name']}")
    page.keyboard.press("Enter")
    expect(page.locator(".facts dd a").first).to_have_text(f"{other.directory}/{other.saved[0]['name']}")
