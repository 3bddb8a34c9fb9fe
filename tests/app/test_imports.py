"""Imports point one way, and the server and the client know nothing of each other; read from the source itself."""

import ast
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
WORDS = (
    "domain",
    "errors",
    "naming",
    "ranking",
    "retention",
    "spans",
    "digests",
    "manifest",
    "metadata",
    "foreign",
    "companions",
    "name_groups",
    "weight_formats",
    "trainer_state",
    "budget",
    "zip_directory",
    "symbolic_pickle",
    "torch_index",
    "tensor_index",
    "access",
    "tokens",
    "signing",
    "actor",
    "quotas",
    "limits",
    "json_parser",
    "comparing",
    "sizes",
    "batches",
    "envelopes",
    "validation",
)
HTTP, SQL = ("fastapi", "starlette", "uvicorn"), ("sqlalchemy", "sqlite3")
DISK = ("os", "pathlib", "io", "shutil", "tempfile")
CLOCK_AND_CHANCE = ("time", "random", "secrets", "uuid", "threading", "asyncio", "socket")

LISTINGS = ("app.catalog.Order", "app.catalog.Query", "app.catalog.AuditLine")

MAY_IMPORT = {
    "words": (),
    "catalog": ("app.catalog",),
    "storage": ("app.storage",),
    "checkpoints": ("app.checkpoints", "app.catalog", "app.storage.base", "app.niceness"),
    "auth": ("app.auth", "app.catalog"),
    "api": ("app.api", "app.auth", "app.checkpoints", *LISTINGS, "app.__version__", "app.logs"),
    "dashboard": (
        "app.dashboard",
        "app.api.dependencies",
        "app.api.paging",
        "app.api.problems",
        "app.auth",
        "app.checkpoints",
        "app.gate.COOKIE",
        "app.root_path",
        "app.catalog.Order",
    ),
    "janitor": ("app.checkpoints",),
    "metrics": ("app.catalog.statistics.Statistics",),
    "middleware": ("app.api.problems", "app.root_path"),
    "gate": ("app.api.problems", "app.auth", "app.context", "app.root_path"),
    "root_path": (),
    "context": (),
    "integrity": (),
    "handover": ("app.api.bodies.SOCKET", "app.niceness", "app.framing", "app.protocol"),
    "protocol": ("app.api.problems.problem_response", "app.integrity.Integrity", "app.framing", "app.pace"),
    "framing": (),
    "pace": (),
    "niceness": (),
    "probe": (),
    "logs": (),
    "settings": (),
    "main": ("app",),
    "serving": ("app",),
    "maintenance": ("app",),
    "token_commands": ("app",),
    "commands": ("app",),
    "flags": ("app.settings",),
    "failures": ("app.checkpoints.adopting.CannotAdopt",),
    "greeting": ("app.__version__",),
    "terminal": (),
    "__main__": ("app",),
    "": (),
}
"""What each part of the server may import of it besides the pure words, and itself; the last is the package."""

NEVER = {
    "server": ("holdfast", "torch", "pickle", "cloudpickle", "dill", "joblib"),
    "words": HTTP + SQL + DISK + CLOCK_AND_CHANCE,
    "catalog": HTTP,
    "storage": HTTP + SQL,
    "checkpoints": HTTP + SQL,
    "api": SQL,
    "client": ("app", *HTTP, *SQL),
}


def imported(module, source, *, is_package=False):
    """Every name that a module imports, in full, wherever in it; also those that `import_module` is told."""
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


def part_of(module):
    part = module.removeprefix("app").removeprefix(".").split(".")[0]
    return "words" if part in WORDS else part


def faults_of_server(module, source, *, is_package=False):
    """What a module of the server imports and must not."""
    part = part_of(module)
    allowed = (*MAY_IMPORT[part], *(f"app.{word}" for word in WORDS))
    return [
        name
        for name in imported(module, source, is_package=is_package)
        if (within(name, ["app"]) and not within(name, allowed))
        or within(name, NEVER["server"] + NEVER.get(part, ()))
        or (
            within(name, ["app.settings"])
            and part not in {"main", "serving", "maintenance", "token_commands", "commands", "flags"}
        )
        or (part not in {"main", "storage"} and within(name, ["app.storage.local", "app.storage.tree"]))
    ]


def faults_of_client(module, source, *, is_package=False):
    """What a module of the client imports and must not."""
    return [name for name in imported(module, source, is_package=is_package) if within(name, NEVER["client"])]


def modules(root):
    """Every module below a folder: its name, its source, and whether it is a package."""
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root.parent).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        yield ".".join(parts[:-1] if is_package else parts), path.read_text(), is_package


SERVER, CLIENT = list(modules(PROJECT / "app")), list(modules(PROJECT / "client" / "holdfast"))


def test_every_module_of_the_server_has_a_place():
    assert {part_of(module) for module, _, _ in SERVER} <= set(MAY_IMPORT)
    assert {"app", "app.domain", "app.api.schemas.queries", "app.storage.local"} <= {module for module, _, _ in SERVER}


@pytest.mark.parametrize(("module", "source", "is_package"), SERVER, ids=[module for module, _, _ in SERVER])
def test_the_server_imports_one_way(module, source, is_package):
    assert faults_of_server(module, source, is_package=is_package) == []


@pytest.mark.parametrize(("module", "source", "is_package"), CLIENT, ids=[module for module, _, _ in CLIENT])
def test_the_client_knows_nothing_of_the_server(module, source, is_package):
    assert faults_of_client(module, source, is_package=is_package) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        pytest.param("app.storage.local", "from app.catalog import Catalog", id="storage sees the catalog"),
        pytest.param("app.catalog.order", "from app import storage", id="the catalog sees storage"),
        pytest.param("app.catalog.order", "from ..storage import local", id="relatively"),
        pytest.param("app.catalog", "from .. import checkpoints", id="a package, relatively"),
        pytest.param("app.catalog.order", "import app.checkpoints.parts as p", id="the catalog sees use cases"),
        pytest.param("app.checkpoints.parts", "from app.api import paging", id="a use case sees HTTP"),
        pytest.param("app.checkpoints.parts", "from app.storage.local import LocalStorage", id="or the very disk"),
        pytest.param("app.checkpoints.parts", "import fastapi", id="or the framework"),
        pytest.param("app.api.files", "from app.storage.base import Storage", id="a route sees storage"),
        pytest.param("app.api.files", "from app.catalog import Catalog", id="a route sees the catalog"),
        pytest.param("app.api.files", "import app.catalog", id="all of it"),
        pytest.param("app.api.files", "from app.catalog import *", id="whatever is in it"),
        pytest.param("app.api.files", "from app import janitor", id="a route sees the janitor"),
        pytest.param("app.api.files", "def f():\n    from app.settings import Settings", id="a route sees settings"),
        pytest.param("app.dashboard.pages", "from app.catalog import Query", id="the dashboard sees the catalog"),
        pytest.param("app.janitor", "from app.catalog import Catalog", id="the janitor sees the catalog"),
        pytest.param("app.retention", "from app.catalog import Query", id="a pure word sees the catalog"),
        pytest.param("app.retention", "import time", id="a pure word sees the clock"),
        pytest.param("app.retention", "from pathlib import Path", id="a pure word sees the disk"),
        pytest.param("app.manifest", "import os.path", id="a part of it"),
        pytest.param("app.main", "import holdfast", id="the server sees the client"),
        pytest.param("app.main", "if TYPE_CHECKING:\n    from torch import Tensor", id="the server sees torch"),
        pytest.param("app.main", "try:\n    import pickle\nexcept ImportError:\n    pass", id="the server unpickles"),
        pytest.param("app.main", "importlib.import_module('torch.serialization')", id="the server imports by name"),
        pytest.param("app.main", "__import__('pickle')", id="the server imports under the counter"),
        pytest.param("app.auth.authority", "from app.main import create_app", id="a part sees the whole"),
    ],
)
def test_an_import_the_wrong_way_would_be_found(module, source):
    assert faults_of_server(module, source, is_package=module == "app.catalog")


@pytest.mark.parametrize(
    ("module", "source"),
    [
        pytest.param("app.storage.local", "from app import manifest, naming", id="pure words"),
        pytest.param("app.api.schemas.queries", "from app.catalog import Order, Query", id="the names of listings"),
        pytest.param("app.api.operations", "from app import __version__", id="the version"),
        pytest.param("app.catalog.order", "from . import schema", id="a neighbour"),
        pytest.param("app.checkpoints.parts", "from app.storage.base import Storage", id="the port"),
        pytest.param("app.main", "from app.storage.local import LocalStorage\nfrom app.settings import x", id="main"),
        pytest.param("app.api.files", "import application, torchvision", id="names that only begin alike"),
    ],
)
def test_an_import_the_right_way_is_none(module, source):
    assert faults_of_server(module, source) == []


@pytest.mark.parametrize("source", ["from app import naming", "import fastapi.testclient", "from app.domain import x"])
def test_a_client_that_imports_the_server_would_be_found(source):
    assert faults_of_client("holdfast.manager", source)
    assert faults_of_client("holdfast.manager", "from . import app_name\nimport apps, httpx") == []
