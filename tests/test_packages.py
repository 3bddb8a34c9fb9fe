"""Each distribution works when installed alone in an empty environment."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.live import PROJECT, LiveServer

TRAIN = """
import sys
from holdfast import CheckpointManager
manager = CheckpointManager("runs/alone", server=sys.argv[1])
manager.save({"n": 1}, epoch=1, loss=0.5)
assert manager.load_best() == {"n": 1}
print(*sys.modules)
"""


def environment(folder: Path, *requirements: str) -> Path:
    """A new virtual environment with these requirements; its python."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "-c", PROJECT / "constraints.txt", *requirements]
    subprocess.run(install, check=True, cwd=PROJECT)
    return python


def missing(python: Path, *modules: str) -> set[str]:
    """Return the modules that are missing in this environment."""
    find = "import sys, importlib.util as u; print(*(m for m in sys.argv[1:] if u.find_spec(m) is None))"
    done = subprocess.run([python, "-P", "-c", find, *modules], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.fixture(scope="module")
def server_alone(tmp_path_factory):
    return environment(tmp_path_factory.mktemp("server"), ".")


@pytest.fixture(scope="module")
def client_alone(tmp_path_factory):
    return environment(tmp_path_factory.mktemp("client"), "./client[torch]")


def test_the_server_needs_no_torch(server_alone, tmp_path):
    assert missing(server_alone, "torch", "numpy", "holdfast", "httpx", "app") >= {"torch", "numpy", "holdfast"}
    assert missing(server_alone, "app") == set()
    with LiveServer(tmp_path / "root", python=server_alone) as live:
        live.save("runs/alone", b"bytes", epoch=1, metric=0.1)
        assert live.http.get("/v1/checkpoints/best/content", params={"directory": "runs/alone"}).content == b"bytes"
        live.restart()
        assert live.names("runs/alone") == ["checkpoint_epoch_0001.pt"]
        assert live.http.get("/docs").status_code == 200
        assert live.stop() == 0


def test_the_client_needs_no_web_framework(client_alone, server):
    assert missing(client_alone, "fastapi", "uvicorn", "starlette", "sqlalchemy", "pydantic", "app") == {
        "fastapi",
        "uvicorn",
        "starlette",
        "sqlalchemy",
        "pydantic",
        "app",
    }
    done = subprocess.run(
        [client_alone, "-P", "-c", TRAIN, server.url], capture_output=True, text=True, check=True, cwd="/"
    )
    assert "torch" in done.stdout.split()


def test_the_commands_are_installed(server_alone):
    command = server_alone.parent / "holdfast-server"
    done = subprocess.run([command, "--version"], capture_output=True, text=True, check=True, cwd="/")
    assert done.stdout.strip() == "0.1.0"
