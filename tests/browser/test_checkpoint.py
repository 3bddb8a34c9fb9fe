"""The page of a checkpoint: its tensors, searched, and what can be copied from it."""

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
