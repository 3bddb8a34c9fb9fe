"""Imports point one way, and the server and the client never import each other; read from the source itself.

One rule per folder: what it may import of its side of the project, besides itself.
"""

import ast
import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]

SERVER = {
    "core": "",
    "formats": "core",
    "runtime": "core",
    "catalog.tables": "core",
    "catalog.rows.shared": "core catalog.tables",
    "catalog.rows": "core runtime catalog.tables",
    "catalog.reports": "core catalog.tables catalog.rows",
    "catalog.migrations": "core catalog.tables",
    "catalog.migrations.versions": "",
    "catalog": "core catalog.tables catalog.rows catalog.reports catalog.migrations",
    "storage.ports": "core",
    "storage": "core storage.ports",
    "storage.local.disk": "core storage.ports",
    "storage.local": "core storage storage.local.disk",
    "auth": "core runtime catalog",
    "service.state.events": "core catalog",
    "service.state": "core runtime catalog storage.ports service.state.events",
    "service.lifecycle": "core catalog storage.ports service.state",
    "service.query": "core catalog storage.ports service.state",
    "service.upload": "core runtime catalog storage.ports service.state service.lifecycle service.query",
    "service.commit": "core formats runtime catalog storage.ports service.state service.lifecycle service.query "
    "service.upload",
    "service.shared": "core catalog storage.ports service.state service.upload service.commit",
    "service": "core service.state service.lifecycle service.query service.upload service.commit service.shared",
    "service.maintenance": "core formats runtime catalog storage.ports storage.manifest service",
    "http.body": "core",
    "http": "core runtime auth http.body",
    "http.sockets": "core runtime http",
    "api.schemas": "core catalog http service",
    "api.schemas.shared": "core service api.schemas",
    "api": "core auth catalog.reports http service api.schemas",
    "api.routes": "core auth http service api __version__",
    "dashboard.render": "core http service.query",
    "dashboard.pages": "core auth http service api.dependencies api.schemas.parameters dashboard.render",
    "dashboard": "core http dashboard.pages dashboard.render",
    "settings": "core auth.token_format",
    "bootstrap": "core runtime auth catalog service storage.ports storage.local settings __version__",
    "main": "*",
    "cli": "*",
    "__main__": "cli",
    "": "",
}
"""The folders of `app` that each folder may import; a named folder includes those below it."""

CLIENT = {
    "errors": "",
    "_runtime": "errors",
    "_arguments": "errors _runtime",
    "_connection": "errors _runtime _arguments",
    "_api": "errors _runtime _connection",
    "_torchfile": "",
    "_torchfile.reader": "errors _runtime _arguments _torchfile.strides",
    "_torchfile.writer": "errors _runtime _api _torchfile.strides",
    "_transfer": "errors _runtime _arguments _api _torchfile.reader",
    "_transfer.folders": "errors _runtime _arguments _api _torchfile.reader _transfer",
    "_filesystem": "errors _runtime _arguments _api _transfer",
    "_spool": "errors _runtime _api _transfer",
    "_save": "errors _runtime _arguments _api _torchfile.writer _transfer _spool",
    "_shared": "errors _runtime _arguments _api _torchfile.reader _torchfile.writer _transfer _transfer.folders",
    "_load": "errors _api _torchfile.reader _transfer _spool",
    "_load_folders": "errors _api _transfer _spool",
    "_resume": "errors _runtime _api _spool _load _load_folders",
    "_options": "_arguments _transfer _spool",
    "_query": "errors _runtime _arguments _api _transfer _options",
    "cleanup": "errors _arguments _api _spool _save",
    "_folders": "_arguments _api _transfer _save _load_folders _resume _options",
    "manager": "errors _runtime _arguments _api _transfer _spool _save _shared _load _resume _options _query _folders",
    "client": "errors _arguments _api _options _query",
    "follow": "errors _options _query client",
    "cli": "*",
    "integrations": "*",
    "integrations._common": "*",
    "integrations.dcp": "*",
    "integrations.lightning": "*",
    "": "errors manager cleanup client follow _query _shared _save.graceful",
}
"""The same for `holdfast`."""

HTTP, SQL = ("fastapi", "starlette", "uvicorn"), ("sqlalchemy", "sqlite3", "alembic")
PURE = (*HTTP, *SQL, "os", "pathlib", "io", "shutil", "tempfile", "time", "random", "secrets", "uuid", "threading")
PURE = (*PURE, "asyncio", "socket")
NEVER = {
    "app": ("holdfast", "torch", "pickle", "cloudpickle", "dill", "joblib"),
    "app.core": PURE,
    "app.formats": PURE,
    "app.catalog": HTTP,
    "app.storage": HTTP + SQL,
    "app.service": HTTP + SQL,
    "app.api": SQL,
    "app.cli": SQL,
    "app.dashboard": SQL,
    "holdfast": ("app", *HTTP, *SQL),
}
"""Packages that a folder, and those below it, never import: other packages, clock, randomness, disk and network."""


def imported(module, source, *, is_package=False):
    """Return every full name that a module imports anywhere, including constants passed to `import_module`."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [f"{_absolute(node, module, is_package)}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in {"import_module", "__import__"}:
            names += [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
    return names


def _absolute(node, module, is_package):
    parts = module.split(".") if is_package else module.split(".")[:-1]
    start = parts[: len(parts) - node.level + 1] if node.level else []
    return ".".join([*start, *([node.module] if node.module else [])])


def within(name, prefixes):
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


def rules_of(module):
    """The side of the project that a module belongs to, and the rules of its folders."""
    side = module.split(".")[0]
    return side, SERVER if side == "app" else CLIENT


def folder_of(name):
    """Return the longest folder of the rules that contains a name; None if there is none."""
    side, rules = rules_of(name)
    inner = name.removeprefix(side).removeprefix(".")
    return max((folder for folder in rules if not folder or within(inner, [folder])), key=len, default=None)


def breaches(module, source, *, is_package=False):
    """The imports of a module that the rule of its folder does not allow."""
    side, rules = rules_of(module)
    folder = folder_of(module)
    allowed = [f"{side}.{name}" for name in rules[folder].split()]
    never = [name for place, names in NEVER.items() if within(module, [place]) for name in names]
    return [
        name
        for name in imported(module, source, is_package=is_package)
        if within(name, never)
        or (
            within(name, [side])
            and rules[folder] != "*"
            and folder_of(name) != folder
            and not within(name, allowed)
            and not any(within(place, [name]) for place in allowed if place.count(".") > name.count("."))
        )
    ]


def modules(root):
    """Every module below a folder: its name, its source, and whether it is a package."""
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root.parent).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        yield ".".join(parts[:-1] if is_package else parts), path.read_text(), is_package


MODULES = [*modules(PROJECT / "app"), *modules(PROJECT / "client" / "holdfast")]
FOLDERS = sorted({module if is_package else module.rpartition(".")[0] for module, _, is_package in MODULES})


def test_every_folder_has_a_rule():
    for side, rules in (("app", SERVER), ("holdfast", CLIENT)):
        found = {module for module, _, _ in MODULES if module.split(".")[0] == side}
        assert {f"{side}.{folder}".rstrip(".") for folder in rules} <= found, "a rule of a folder that is gone"
        packages = {folder for folder in FOLDERS if folder.startswith(f"{side}.")}
        assert {f"{side}.{folder}" for folder in rules} >= packages - {"holdfast.cli.commands"}


@pytest.mark.parametrize(("module", "source", "is_package"), MODULES, ids=[module for module, _, _ in MODULES])
def test_a_module_imports_what_its_folder_may(module, source, is_package):
    assert breaches(module, source, is_package=is_package) == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_docstring_of_a_folder_names_what_it_may_import(folder):
    side, rules = rules_of(folder)
    rule = rules.get(folder.removeprefix(side).removeprefix("."), "")
    if rule not in {"", "*"} and folder != side:
        (source,) = (source for module, source, is_package in MODULES if module == folder and is_package)
        said = " ".join(ast.get_docstring(ast.parse(source)).split())
        named = re.search(r"May import ((?:[^;`.]|`[\w.]+`)*)", said)
        assert set(re.findall(r"`([\w.]+)`", named[1])) == set(rule.split())


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_docstring_of_a_folder_says_what_it_decides_may_import_and_never_touches(folder):
    (source,) = (source for module, source, is_package in MODULES if module == folder and is_package)
    said = ast.get_docstring(ast.parse(source))
    assert [word for word in ("Decides ", "May import ", " never ") if word not in " ".join(said.split())] == []


@pytest.mark.parametrize("rules", [SERVER, CLIENT], ids=["server", "client"])
def test_no_rule_allows_a_circle(rules):
    def below(folder, seen=()):
        assert folder not in seen, f"{' > '.join([*seen, folder])}"
        for name in rules.get(folder, "").replace("*", "").split():
            target = max((each for each in rules if each and within(name, [each])), key=len, default=None)
            if target not in {None, folder}:
                below(target, (*seen, folder))

    for folder in rules:
        below(folder)


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_is_small_enough_to_be_seen_at_once(folder):
    inside = [m for m, _, is_package in MODULES if m.rpartition(".")[0] == folder and not is_package]
    assert len(inside) <= 13 or folder == "app.catalog.migrations.versions"


@pytest.mark.parametrize(
    ("module", "source"),
    [
        pytest.param("app.storage.local.store", "from app.catalog import Catalog", id="storage sees the catalog"),
        pytest.param("app.catalog.tables.order", "from app import storage", id="the catalog sees storage"),
        pytest.param("app.catalog.tables.order", "from ...storage import local", id="relatively"),
        pytest.param("app.catalog", "from .. import service", id="a package, relatively"),
        pytest.param("app.catalog.rows.audit", "import app.service.state.context as c", id="rows see use cases"),
        pytest.param("app.catalog.tables.order", "from app.catalog.rows import uploads", id="tables see rows"),
        pytest.param("app.service.state.context", "from app.http import problems", id="a use case sees HTTP"),
        pytest.param(
            "app.service.state.context", "from app.service.upload import receive_range", id="state sees a use case"
        ),
        pytest.param("app.service.query.lookup", "from app.storage.local.store import LocalStorage", id="or the disk"),
        pytest.param("app.service.query.lookup", "from app.storage.local import layout", id="or its layout"),
        pytest.param("app.storage.ports.files", "from app.storage.local.disk import files", id="a port sees a store"),
        pytest.param("app.storage.local.disk.tree", "from app.storage.local import layout", id="the disk sees roots"),
        pytest.param("app.service.query.lookup", "import fastapi", id="or the framework"),
        pytest.param("app.api.routes.content", "from app.storage.ports import Storage", id="a route sees storage"),
        pytest.param("app.api.routes.content", "def f():\n    from app.settings import x", id="or settings, inside"),
        pytest.param("app.api.schemas.values", "from app.api.routes import content", id="a schema sees a route"),
        pytest.param("app.http.timeouts", "from app.api import dependencies", id="the server below sees routes"),
        pytest.param("app.dashboard.pages.live", "from app.catalog import *", id="the dashboard sees the catalog"),
        pytest.param("app.core.retention", "from app.catalog import ListFilter", id="a pure rule sees the catalog"),
        pytest.param("app.core.retention", "import time", id="a pure rule sees the clock"),
        pytest.param("app.formats.torch_index", "from pathlib import Path", id="a pure reader sees the disk"),
        pytest.param("app.core.models", "import os.path", id="a part of it"),
        pytest.param("app.main", "import holdfast", id="the server sees the client"),
        pytest.param("app.main", "if TYPE_CHECKING:\n    from torch import Tensor", id="the server sees torch"),
        pytest.param("app.main", "try:\n    import pickle\nexcept ImportError:\n    pass", id="the server unpickles"),
        pytest.param("app.main", "importlib.import_module('torch.serialization')", id="the server imports by name"),
        pytest.param("app.main", "__import__('pickle')", id="the server imports under the counter"),
        pytest.param("app.auth.authenticator", "from app.main import create_app", id="a part sees the whole"),
        pytest.param("holdfast.manager", "from app.core import names", id="the client sees the server"),
        pytest.param("holdfast.manager", "import fastapi.testclient", id="or its framework"),
        pytest.param("holdfast._api.server", "from .._spool import queue", id="the protocol sees the spool"),
        pytest.param("holdfast._transfer.upload", "from .._save.job import SaveJob", id="a transfer sees a save"),
        pytest.param("holdfast._runtime.parallel", "from ..manager import CheckpointManager", id="below sees above"),
    ],
)
def test_an_import_the_wrong_way_would_be_found(module, source):
    assert breaches(module, source, is_package=module == "app.catalog")


@pytest.mark.parametrize(
    ("module", "source"),
    [
        pytest.param("app.storage.local.store", "from app.core import names, spans", id="pure rules"),
        pytest.param("app.api.schemas.queries", "from app.catalog import Order", id="the names of lists"),
        pytest.param("app.api.routes.operations", "from app import __version__", id="the version"),
        pytest.param("app.catalog.tables.order", "from . import schema", id="a neighbour"),
        pytest.param("app.service.state.context", "from app.storage.ports import Storage", id="the ports"),
        pytest.param(
            "app.main", "from app.storage.local.store import LocalStorage\nfrom app.settings import x", id="main"
        ),
        pytest.param("app.api.routes.content", "import application, torchvision", id="names that only begin alike"),
        pytest.param("holdfast.manager", "from . import _load, errors\nimport apps, httpx", id="what is below it"),
    ],
)
def test_an_import_the_right_way_is_none(module, source):
    assert breaches(module, source) == []
