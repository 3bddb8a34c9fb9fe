"""The tables of routes, from the API's description and from the permissions that routes ask for."""

import importlib
import pkgutil
import re
from collections.abc import Iterator
from functools import cache, partial
from typing import Any

from fastapi import APIRouter

import app.api.routes
from app.api.dependencies import Permission
from app.main import create_app
from app.settings import Settings
from scripts.reference.markdown import code, sentence
from scripts.reference.markdown import table as a_table

_FEW = 5
"""More query parameters than these have a table of their own in the page."""

Operation = tuple[str, str, dict[str, Any]]
"""Method, path, and what the description says of it."""


def parts() -> dict[str, Any]:
    """Return the writer of one table for each tag."""
    tags = {tag for _, _, operation in _operations() for tag in operation["tags"]}
    return {f"routes of {tag}": partial(_table, tag) for tag in sorted(tags)}


def _table(tag: str, _: str) -> str:
    rows: dict[str, tuple[str, ...]] = {}
    for method, path, operation in _operations():
        if tag in operation["tags"] and method != "HEAD":
            also = f"{method}, HEAD" if ("HEAD", path) in {found[:2] for found in _operations()} else method
            refused = ", ".join(code(name) for name in _codes(operation) if name not in _common())
            rows[f"{path} {method}"] = (
                f"{code(also)}<br>{code(path)}",
                _scopes().get(operation["operationId"], "none"),
                _summary(operation),
                refused or "none",
            )
    return a_table(("route", "scope", "description", "refusals of its own"), rows.values())


def _summary(operation: dict[str, Any]) -> str:
    names = [parameter["name"] for parameter in operation.get("parameters", ()) if parameter["in"] == "query"]
    query = f" Query: {', '.join(code(name) for name in names)}." if 0 < len(names) <= _FEW else ""
    return sentence(operation.get("description", "").split("\n\n")[0]) + query


@cache
def _operations() -> tuple[Operation, ...]:
    paths = create_app(Settings()).openapi()["paths"]
    return tuple((method.upper(), path, found) for path in paths for method, found in paths[path].items())


def _codes(operation: dict[str, Any]) -> list[str]:
    said = [answer.get("description", "") for answer in operation["responses"].values()]
    return [name for text in said if text.startswith("Refused") for name in re.findall(r"`([a-z_]+)`", text)]


@cache
def _common() -> frozenset[str]:
    """Return the codes of all routes, of all that have a body, and of all that take a name: the page says them once."""
    below = [found for _, path, found in _operations() if path.startswith("/v1") and "/links/" not in path]
    always = set.intersection(*(set(_codes(found)) for found in below))
    bodies = set.intersection(*(set(_codes(found)) for found in below if "requestBody" in found))
    return frozenset(always | bodies | {"invalid_name"})


@cache
def _scopes() -> dict[str, str]:
    return {route.name: scope for route in _routes() for scope in _scopes_of(route)}


def _scopes_of(route: Any) -> list[str]:
    return [needed.call.scope for needed in route.dependant.dependencies if isinstance(needed.call, Permission)]


def _routes() -> Iterator[Any]:
    for found in pkgutil.iter_modules(app.api.routes.__path__, "app.api.routes."):
        for router in vars(importlib.import_module(found.name)).values():
            if isinstance(router, APIRouter):
                yield from (route for route in router.routes if hasattr(route, "dependant"))
