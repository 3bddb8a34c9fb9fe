"""Responses that come in pages, combined: tensors, comparisons and verdicts."""

from collections.abc import Callable, Iterator
from typing import Any

from .lookup import Json, Lookup

MOST_PAGES = 100
"""The most pages of verdicts that are read to find one checkpoint."""


def tensors(lookup: Lookup, checkpoint: Json) -> list[Json]:
    """Return the files of a checkpoint, each with its declared tensors."""
    path = f"/v1/checkpoints/{checkpoint['id']}/tensors"
    files: dict[str, Json] = {}
    for page in _pages(lambda token: lookup.ask(path, **token)):
        for file in page["files"]:
            files.setdefault(file["path"], {**file, "tensors": []})["tensors"] += file["tensors"]
    return list(files.values())


def comparison(lookup: Lookup, before: Json, after: Json) -> Json:
    """Return the comparison of two checkpoints, with all their tensors."""
    path = f"/v1/checkpoints/{after['id']}/comparison"
    first, *others = _pages(lambda token: lookup.ask(path, against=before["id"], **token))
    for page in others:
        first["tensors"] += page["tensors"] or []
    return first


def verdicts(lookup: Lookup, body: Json) -> Iterator[Json]:
    """Yield the pages of a prune's response; a real run has one."""
    return _pages(lambda token: lookup.server.call("POST", "/v1/prune", body={**body, **token}))


def prune(lookup: Lookup, body: Json) -> Json:
    """Return a prune's response with all its verdicts."""
    first, *others = verdicts(lookup, body)
    directories: dict[str, Json] = {each["directory"]: each for each in first["directories"]}
    for page in others:
        first["freed_bytes"] += page["freed_bytes"]
        for name in ("stays", "goes"):
            first[name] += page[name]
        for each in page["directories"]:
            if each["directory"] in directories:
                directories[each["directory"]]["verdicts"] += each["verdicts"]
            else:
                directories[each["directory"]] = each
    first["directories"] = list(directories.values())
    return first


def _pages(ask: Callable[[dict[str, Any]], Json]) -> Iterator[Json]:
    token: dict[str, Any] = {}
    while True:
        page = ask(token)
        following = page.get("next_page_token")
        if following is not None:
            page["next_page_token"] = None  # the combined response has no next page
        yield page
        if following is None:
            return
        token = {"page_token": following}
