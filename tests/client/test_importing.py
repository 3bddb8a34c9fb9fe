"""Importing the client is cheap, and constructing a manager sends nothing."""

import os
import socket
import subprocess
import sys

import pytest

from holdfast import CheckpointManager

COSTLY = {"asyncio", "difflib", "email", "html", "http", "httpx", "multiprocessing", "ssl", "tempfile", "tqdm"}
"""Packages that take a good part of the time in which all the rest is imported, or more."""
FOREIGN = {"torch", "numpy", "fastapi", "sqlalchemy", "app", "rich", "typer", "click", "pygments"}


def modules_after(code, *arguments, **environment):
    """The top-level packages that a new process has imported once it has run some code."""
    check = f"import sys; {code}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    named = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    command = [sys.executable, "-c", check, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**named, **environment})
    return set(done.stdout.split())


def test_importing_the_client_imports_nothing_costly():
    found = modules_after("import holdfast")
    assert "holdfast" in found
    assert found.isdisjoint(FOREIGN | COSTLY)


MANAGER = "from holdfast import CheckpointManager; manager = CheckpointManager(sys.argv[2], server=sys.argv[1])"


def test_a_manager_imports_httpx_only_for_a_proxy(server, directory):
    save = f"{MANAGER}; manager.save({{'a': 1}}, epoch=1); assert manager.load_latest() == {{'a': 1}}"
    assert "httpx" not in modules_after(save, server.url, directory)
    assert "httpx" in modules_after(MANAGER, server.url, directory, http_proxy="http://127.0.0.1:1")


@pytest.mark.parametrize("package", ["holdfast", "app"])
def test_a_folder_of_that_name_does_not_hide_a_package(tmp_path, package):
    """This happens beside a clone, whose folder is called ``holdfast``."""
    (tmp_path / package / "client").mkdir(parents=True)
    check = f"import {package}; print({package}.__file__)"
    command = [sys.executable, "-c", check]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.endswith(f"{package}/__init__.py\n"), "installed by an older scripts/install? Run it again"


def test_constructing_a_manager_opens_no_connection(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)
        CheckpointManager(tmp_path, server=f"http://127.0.0.1:{listener.getsockname()[1]}")
        with pytest.raises(TimeoutError):
            listener.accept()
    assert list(tmp_path.iterdir()) == []


def test_saves_in_the_background_import_nothing_more(server, directory):
    """A job that forks meanwhile would leave its child with half a module, or a locked lock of OpenSSL."""
    check = """
import sys, torch
from holdfast import CheckpointManager
from holdfast._connection import certificates
manager = CheckpointManager(sys.argv[1], server=sys.argv[2], background=True)
known, made = set(sys.modules), certificates._configured_context.cache_info().misses
manager.save({"weights": torch.zeros(100_000)}, epoch=1)
assert manager.wait()
assert certificates._configured_context.cache_info().misses == made == 1
print(*sorted(name for name in set(sys.modules) - known if not name.startswith("torch.")))
"""
    url = server.url.replace("127.0.0.1", "localhost")
    done = subprocess.run([sys.executable, "-c", check, directory, url], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
    assert server.names(directory) == ["checkpoint_epoch_0001.pt"]


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param({"mode": "best"}, id="mode"),
        pytest.param({"max_checkpoints": -1}, id="a negative limit"),
        pytest.param({"max_best_checkpoints": 1.5}, id="half a checkpoint"),
        pytest.param({"keep_every_epochs": 0}, id="every zero epochs"),
        pytest.param({"checkpoint_dir": ".."}, id="no directory"),
    ],
)
def test_what_cannot_be_meant_is_a_value_error(arguments):
    with pytest.raises(ValueError):  # noqa: PT011 - the messages differ
        CheckpointManager(**{"checkpoint_dir": "runs/a", **arguments})


def test_the_documented_signature(tmp_path):
    manager = CheckpointManager(tmp_path, 5, 2, "max")
    assert (manager.checkpoint_dir, manager.max_checkpoints, manager.max_best_checkpoints, manager.mode) == (
        tmp_path,
        5,
        2,
        "max",
    )
