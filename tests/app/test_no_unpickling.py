"""The server never runs code from a checkpoint: its source has no way to, and its process never does."""

import ast
import os
import signal
import subprocess
import sys

import pytest

from tests.data import exploits
from tests.support.deadlines import DEADLINE_S
from tests.support.live import PROJECT, LiveServer, eventually
from tests.test_imports import MODULES as SOURCES
from tests.test_imports import imported, within

MODULES = (
    "torch",
    "numpy",
    "pickle",
    "_pickle",
    "cloudpickle",
    "dill",
    "joblib",
    "marshal",
    "shelve",
    "yaml",
    "runpy",
    "code",
)
RUNNERS = ("subprocess", "multiprocessing", "pty", "ctypes", "importlib", "imp", "pkgutil")
CALLS = {"eval", "exec", "compile", "__import__", "breakpoint"}
METHODS = {
    *("system", "popen", "fork", "forkpty", "posix_spawn", "posix_spawnp", "startfile", "import_module"),
    *(f"{kind}{ending}" for kind in ("exec", "spawn") for ending in ("l", "le", "lp", "lpe", "v", "ve", "vp", "vpe")),
}
LISTED = {
    (
        "app.storage.local.disk.linux",
        "ctypes",
    ): "calls of the C library that Python has no name for: fallocate and the like",
}
"""Exceptions from the rule, with the reason."""
NEVER_LOADED = {"torch", "numpy", "cloudpickle", "dill", "joblib", "yaml", "shelve"}
HOOK = """
import atexit, os, signal, sys
path = os.environ["AUDITED"]
names = ["pickle.find_class", "os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty"]
def seen(event, arguments):
    if event in names:
        with open(path, "a") as file:
            file.write(f"{event} {arguments!r:.200}\\n")
def tell(*_):
    aside = f"{path}.{os.getpid()}"
    with open(aside, "w") as file:
        file.write("\\n".join(sorted(sys.modules)))
    os.rename(aside, path + ".modules")
sys.addaudithook(seen)
atexit.register(tell)
signal.signal(signal.SIGUSR1, tell)
"""


def faults_of(module, source):
    """List the imports and calls of a module that could run code from a file."""
    for name in imported(module, source):
        top = name.partition(".")[0]
        if within(name, MODULES + RUNNERS) and (module, top) not in LISTED:
            yield name
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in CALLS or called.removeprefix("builtins.") in CALLS:
                yield called
        name = node.attr if isinstance(node, ast.Attribute) else None
        owner = ast.unparse(node.value) if isinstance(node, ast.Attribute) else ""
        if (name in METHODS and owner in {"os", "posix", "importlib"}) or f"{owner}.{name}" == "builtins.eval":
            yield f"{owner}.{name}"
        if isinstance(node, ast.ImportFrom) and node.module in {"os", "posix"}:
            yield from (alias.name for alias in node.names if alias.name in METHODS)


def test_no_module_of_the_server_can_run_what_a_file_holds():
    found = {module: list(faults_of(module, source)) for module, source, _ in SOURCES if within(module, ["app"])}
    assert {module: faults for module, faults in found.items() if faults} == {}


def test_what_is_listed_is_there():
    sources = {module: source for module, source, _ in SOURCES if within(module, ["app"])}
    assert [place for place in LISTED if place[1] not in imported(place[0], sources.get(place[0], ""))] == []


@pytest.mark.parametrize(
    "source",
    [
        *("import torch", "import numpy as np", "from pickle import loads", "import yaml", "import marshal, json"),
        *("import subprocess", "from multiprocessing import Process", "import ctypes", "import importlib"),
        *("eval(text)", "exec(text)", "compile(text, '', 'exec')", "import builtins\nbuiltins.eval(text)"),
        *("import os\nos.system(text)", "os.execv(text, [])", "run = os.popen", "from os import system as s"),
    ],
)
def test_what_could_run_something_would_be_found(source):
    assert list(faults_of("app.storage.local.store", source))


@pytest.fixture
def audited(tmp_path, monkeypatch):
    """An environment in which every process records what it runs, and a function that reads the record."""
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(HOOK)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "hook"))
    monkeypatch.setenv("AUDITED", str(tmp_path / "events"))
    return lambda what="": (
        (tmp_path / f"events{what}").read_text().split("\n") if (tmp_path / f"events{what}").exists() else []
    )


def save_in_every_way(server, files):
    """Save these files in one shot, by uploads, and as one folder."""
    for number, data in enumerate(files):
        server.save("runs/shot", data, name=f"{number}.pt", epoch=number, metric=-number)
    folder = [{"path": f"{number}.pt", "size_bytes": len(data)} for number, data in enumerate(files)]
    for name, listed in (("several", folder), ("one.pt", [{"size_bytes": len(files[0])}])):
        body = {"directory": "runs/upload", "name": name, "files": listed}
        upload = server.http.post("/v1/uploads", json=body).json()
        for wanted in upload["missing"]:
            part = wanted["url"].partition("/files/")[2].partition("?")[0]
            data = files[int(part.split(".")[0])] if name == "several" else files[0]
            piece = data[wanted["offset"] :][: wanted["length"]]
            server.http.put(wanted["url"], content=piece).raise_for_status()
        server.http.post(f"/v1/uploads/{upload['id']}/commit").raise_for_status()


def read_in_every_way(server):
    for directory in ("runs/shot", "runs/upload"):
        listed = server.http.get("/v1/checkpoints", params={"directory": directory, "page_size": 1000}).json()
        for checkpoint in listed["checkpoints"]:
            for what in ("content", "chunks", "tensors"):
                server.http.get(f"/v1/checkpoints/{checkpoint['id']}/{what}")
        for which in ("best", "latest"):
            server.http.get(f"/v1/checkpoints/{which}/content", params={"directory": directory})
    server.http.post("/v1/prune", json={"prefix": ""}).raise_for_status()
    server.http.put("/v1/directories/runs/shot", json={"max_checkpoints": 1, "max_best_checkpoints": 1})
    server.http.post("/v1/prune", json={"prefix": ""}).raise_for_status()


def test_whatever_a_server_holds_it_runs_none_of_it(tmp_path, audited):
    mark = tmp_path / "mark"
    files = [data for data in exploits.everything(mark).values() if len(data) < 1 << 20][::2]
    with LiveServer(tmp_path / "root", python=sys.executable, scrub_every="1") as server:
        save_in_every_way(server, files)
        read_in_every_way(server)
        assert eventually(lambda: "holdfast_scrubbed_bytes_total 0.0" not in server.http.get("/metrics").text)
        os.kill(server.process_id, signal.SIGUSR1)
        assert eventually(lambda: audited(".modules"))
        loaded = set(audited(".modules"))
        assert server.stop() == 0
    strange = tmp_path / "root" / "strange"
    strange.mkdir()
    for number, data in enumerate(files):
        (strange / f"{number}.pt").write_bytes(data)
    for words in (["adopt", str(strange)], ["fsck"], ["reindex"]):
        command = [sys.executable, "-m", "app", words[0], "--root", str(tmp_path / "root"), *words[1:]]
        subprocess.run(command, cwd=PROJECT, check=False, timeout=DEADLINE_S, capture_output=True)
        loaded |= set(audited(".modules"))
    assert audited() == []
    assert not mark.exists()
    assert "app.main" in loaded
    assert {module.partition(".")[0] for module in loaded} & NEVER_LOADED == set()


@pytest.mark.parametrize(
    ("source", "event"),
    [
        pytest.param("import os; os.system('true')", "os.system", id="a command"),
        pytest.param("import pickle; pickle.loads(b'cos\\nsystem\\n.')", "pickle.find_class", id="a pickle"),
        pytest.param("import subprocess; subprocess.run(['true'])", "subprocess.Popen", id="a process"),
        pytest.param("import os; os.fork()", "os.fork", id="a fork"),
    ],
)
def test_the_hook_sees_what_is_run(audited, source, event):
    subprocess.run([sys.executable, "-c", source], check=True, timeout=DEADLINE_S)
    assert any(line.startswith(event) for line in audited())
    assert "sitecustomize" in audited(".modules")
