"""The documents agree with the repository: versions, paths, links, anchors, and the pages of the site."""

import re
import tomllib
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import app
import holdfast
from app.api import openapi
from app.main import create_app
from app.settings import Settings
from tests.support.live import PROJECT

DOCS = PROJECT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
DOCUMENTS = [PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", PROJECT / "CHANGELOG.md", *PAGES]


def text(name: str) -> str:
    return (PROJECT / name).read_text()


def test_the_committed_api_description_is_current():
    assert text("openapi.json") == openapi.dump(create_app(Settings()))


def test_both_distributions_and_the_changelog_say_one_version():
    versions = {tomllib.loads(text(name))["project"]["version"] for name in ("pyproject.toml", "client/pyproject.toml")}
    assert versions == {app.__version__} == {holdfast.__version__}
    assert re.search(r"^## \[?([\d.]+)", text("CHANGELOG.md"), re.MULTILINE)[1] == app.__version__


def path_id(path: Path) -> str:
    return path.relative_to(PROJECT).as_posix()


def prose(document: Path) -> str:
    """Return a document without its blocks of code."""
    return re.sub(r"^```.*?^```", "", document.read_text(), flags=re.DOTALL | re.MULTILINE)


def links(document: Path) -> list[str]:
    return re.findall(r"\]\((?!https?:)([^)\s]+)\)", prose(document))


def anchors(document: Path) -> set[str]:
    """Return the anchors of a document's headings, on which GitHub and the site must agree."""
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6} (.+)$", prose(document), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)|[`*]", r"\1", heading).strip().lower()
        on_github = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        ascii_only = unicodedata.normalize("NFKD", plain).encode("ascii", "ignore").decode()
        on_the_site = re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", ascii_only).strip())
        assert on_github == on_the_site, f"{heading!r} has two anchors"
        assert on_github not in found, f"{heading!r} stands twice"
        found.add(on_github)
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=path_id)
def test_paths_that_documents_name_exist(document: Path):
    named = re.findall(r"`((?:app|client|docs|scripts|examples|tests)/[\w./-]+)`", document.read_text())
    for link in re.findall(r'src(?:set)?="([^"]+)"', document.read_text()):
        assert (document.parent / link).exists(), link
    if document.name != "CHANGELOG.md":  # which also tells of what was there once
        for path in named:
            assert (PROJECT / path).exists(), path


PLACES = text("CONTRIBUTING.md").partition("\n## Where things go\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize("row", re.findall(r"^\| (?!a new|---)(.*) \|$", PLACES, re.MULTILINE))
def test_places_for_new_things_exist(row: str):
    paths = [span.split()[0] for span in re.findall(r"`([^`]+)`", row) if re.search(r"/|\.(py|json|toml|md)$", span)]
    assert paths or "](docs/" in row
    for path in paths:
        assert list(PROJECT.glob(path.rstrip("/"))), path
    for name, path in re.findall(r"`(\w+)` in `([\w/]+\.py)`", row):
        assert re.search(rf"\b{name}\b", text(path)), f"{name} in {path}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=path_id)
def test_links_of_documents_lead_to_a_page_and_to_a_heading(document: Path):
    for link in links(document):
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link
        if document.is_relative_to(DOCS):
            assert target.is_relative_to(DOCS), f"{link} leads out of the site"


@pytest.mark.parametrize("document", DOCUMENTS, ids=path_id)
def test_headings_have_one_anchor_each(document: Path):
    if document.name != "CHANGELOG.md":
        anchors(document)


def entries(nav: list[Any]) -> Iterator[str]:
    for entry in nav:
        if isinstance(entry, str):
            yield entry
        else:
            yield from entries(list(entry.values()) if isinstance(entry, dict) else entry)


def test_every_page_stands_in_the_navigation_of_the_site_once():
    nav = tomllib.loads(text("zensical.toml"))["project"]["nav"]
    assert sorted(entries(nav)) == [page.relative_to(DOCS).as_posix() for page in PAGES]


def test_the_architecture_names_every_top_folder():
    documented = text("docs/explanation/architecture.md")
    for side in ("app", "client/holdfast"):
        for package in (PROJECT / side).glob("*/__init__.py"):
            name = f"{side.removeprefix('client/')}/{package.parent.name}"
            assert re.search(rf"`{name}`", documented), name
