"""The examples of the interface, run against a live server."""

import doctest
import importlib
import re
import sys
import warnings
from pathlib import Path
from types import ModuleType

import pytest

import holdfast
from tests.support.live import PROJECT, LiveServer

MODULES = ["holdfast", *(f"holdfast.{p.stem}" for p in sorted(Path(holdfast.__file__).parent.glob("[a-z]*.py")))]
MODULES += ["holdfast._query.reading", "holdfast._folders"]  # parts of the interfaces of `Client` and the manager


@pytest.mark.parametrize("module", MODULES)
def test_examples_do_what_they_say(module, server: LiveServer, directory, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOLDFAST_URL", server.url)
    monkeypatch.setenv("HOLDFAST_PREFIX", f"doctests/{directory}")
    results = doctest.testmod(importlib.import_module(module))
    assert results.failed == 0


def examples_of(page: Path) -> str:
    """Return the examples of a page that are run: those in blocks of Python that begin with a prompt."""
    return "\n".join(re.findall(r"^```python\n(>>>.*?)^```", page.read_text(), re.S | re.M))


PAGES = [page for page in sorted((PROJECT / "docs").rglob("*.md")) if examples_of(page)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_examples_of_a_page_do_what_they_say(page, own_server: LiveServer, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOLDFAST_URL", own_server.url)
    monkeypatch.delenv("HOLDFAST_PREFIX", raising=False)
    guide = ModuleType("guide")  # a module, as the examples pickle a class of their own
    monkeypatch.setitem(sys.modules, "guide", guide)
    examples = doctest.DocTestParser().get_doctest(examples_of(page), {}, page.name, page.name, 0)
    examples.globs = vars(guide)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", holdfast.HoldfastWarning)  # the outage that the page describes
        results = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(examples, clear_globs=False)
    assert results.failed == 0


def test_the_pages_have_examples():
    examples = [doctest.DocTestParser().get_examples(examples_of(page)) for page in PAGES]
    assert len(PAGES) >= 4
    assert sum(map(len, examples)) > 60


def test_there_are_examples():
    finder = doctest.DocTestFinder()
    found = [test for name in MODULES for test in finder.find(importlib.import_module(name)) if test.examples]
    documented = {test.name.rpartition(".")[2] for test in found}
    assert {"holdfast", "CheckpointManager", "save", "save_best_if_improved", "load", "get_best_metric"} <= documented
    assert {"save_checkpoint_with_cleanup", "Client", "checkpoints", "download", "watch", "prune"} <= documented
