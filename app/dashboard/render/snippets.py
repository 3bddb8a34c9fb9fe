"""Snippets: code and commands that download checkpoints, ready to copy."""

import shlex
from collections.abc import Mapping
from urllib.parse import quote

from fastapi import Request

from app.core.models import Checkpoint
from app.service.query.lookup import Summary

MOST_FILES = 20
"""The most files of a checkpoint in a snippet."""


def of_directory(request: Request, summary: Summary, *, is_open: bool) -> Mapping[str, str]:
    """Return snippets that download the best checkpoint, or else the latest, by language; none if there is neither."""
    url, name = _url(request), summary.directory.name
    which = "best" if summary.best is not None else "latest"
    found = summary.best or summary.latest
    if found is None:
        return {}
    if found.is_folder:
        get = f"holdfast get {shlex.quote(name)} {which} --server {shlex.quote(url)}"
        return {**of_checkpoint(request, found, is_open=is_open), "Command line": get}
    manager = f"manager = CheckpointManager({name!r}, server={url!r})"
    address = f"{url}/v1/checkpoints/{which}/content?directory={quote(name, safe='/')}"
    return {
        "Python": f"from holdfast import CheckpointManager\n\n{manager}\nstate = manager.load_{which}()",
        "Command line": f"holdfast get {shlex.quote(name)} {which} --server {shlex.quote(url)} --output {which}.pt",
        "curl": f"curl {_header(is_open)}--fail --output {which}.pt {shlex.quote(address)}",
    }


def of_checkpoint(request: Request, checkpoint: Checkpoint, *, is_open: bool) -> Mapping[str, str]:
    """Return snippets that download one checkpoint, by language."""
    url, path = _url(request), f"{checkpoint.directory}/{checkpoint.name}"
    manager = f"manager = CheckpointManager({checkpoint.directory!r}, server={url!r})"
    get = "path = manager.download" if checkpoint.is_folder else "state = manager.load"
    into = f"./{checkpoint.name}/" if checkpoint.is_folder else "./"
    fetch = [
        f"curl {_header(is_open)}--fail --create-dirs --output {shlex.quote(f'{into}{file.path}')} "
        + shlex.quote(f"{url}/v1/checkpoints/{checkpoint.id}/files/{quote(file.path)}")
        for file in checkpoint.files[:MOST_FILES]
    ]
    if len(checkpoint.files) > MOST_FILES:
        fetch.append(f"# and {len(checkpoint.files) - MOST_FILES} more files")
    return {
        "Python": f"from holdfast import CheckpointManager\n\n{manager}\n{get}({checkpoint.name!r})",
        "Command line": f"holdfast get {shlex.quote(path)} --server {shlex.quote(url)}",
        "curl": "\n".join(fetch),
    }


def _url(request: Request) -> str:
    return str(request.base_url).rstrip("/")


def _header(is_open: bool) -> str:
    return "" if is_open else '--header "Authorization: Bearer $HOLDFAST_TOKEN" '
