"""Missing packages: the error names the package and the command to install it; nothing is sent or lost."""

import shlex
import subprocess
import sys
import tomllib
from types import ModuleType

import pytest

from holdfast import HoldfastError, MissingPackage, UnsafeCheckpoint
from holdfast._runtime import packages as _packages
from holdfast._torchfile.reader.file_memory import FileMemory
from holdfast._torchfile.reader.load_state import load_state
from tests.data import zoo
from tests.support.live import PROJECT

HIDE = """
import sys
for name in sys.argv[1].split(","):
    sys.modules[name] = None
del sys.argv[1]
"""
ACT = {
    "save": "manager.save({'a': 1}, epoch=2)",
    "save in the background": "manager.save({'a': 1}, epoch=2, wait=False)",
    "save_best_if_improved": "manager.save_best_if_improved({'a': 1}, metric=0.1, epoch=2)",
    "save_checkpoint_with_cleanup": "holdfast.save_checkpoint_with_cleanup({'a': 1}, sys.argv[1])",
    "load": "manager.load('checkpoint_epoch_0001.pt')",
    "load a part": "manager.load('checkpoint_epoch_0001.pt', only=('a',))",
    "load_best": "manager.load_best()",
    "load_latest": "manager.load_latest()",
    "resume": "manager.resume()",
}


def without(packages, program, *arguments):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", HIDE + program, packages, *arguments], capture_output=True, text=True
    )


@pytest.mark.parametrize("extra", ["torch", "cli", "socks"])
def test_what_is_advised_is_what_the_extra_installs(extra):
    declared = tomllib.loads((PROJECT / "client" / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert shlex.split(_packages.install_command(extra)) == ["pip", "install", *declared[extra]]


def test_every_call_that_needs_torch_says_so(server, directory, monkeypatch):
    monkeypatch.setenv("HOLDFAST_URL", server.url)
    server.save(directory, zoo.saved({"a": 1}), epoch=1, metric=0.5)
    program = "import holdfast\nmanager = holdfast.CheckpointManager(sys.argv[1])\n"
    for name, call in ACT.items():
        program += f"try: {call}\nexcept holdfast.MissingPackage as error: print({name!r}, error.name, error)\n"
    done = without("torch", program + "print(len(manager.checkpoints), manager.get_best_metric())", directory)
    lines = done.stdout.splitlines()
    assert (len(lines), lines[-1]) == (len(ACT) + 1, "1 0.5"), done.stderr
    for line in lines[:-1]:
        assert "torch" in line and 'pip install "torch>=2.7"' in line, line  # noqa: PT018


@pytest.mark.parametrize("arguments", [["--only", "a"], ["--tensor", "a"]], ids=lambda each: each[0])
def test_the_command_line_says_so(server, directory, monkeypatch, tmp_path, arguments):
    monkeypatch.setenv("HOLDFAST_URL", server.url)
    monkeypatch.chdir(tmp_path)
    server.save(directory, zoo.saved({"a": 1}), epoch=1)
    program = "from holdfast.cli import main\nsys.exit(main(sys.argv[1:]))"
    done = without("torch", program, "get", f"{directory}/checkpoint_epoch_0001.pt", *arguments, "-o", "a.pt")
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    if arguments[0] == "--only":  # of tensors, the server knows none here
        assert "torch" in done.stderr
        assert "pip install" in done.stderr
    assert list(tmp_path.iterdir()) == []


def loaded(data, **how):
    memory = FileMemory(len(data))
    memory.view(0, len(data))[:] = data
    return load_state(memory, lambda spans: None, **how)


def test_a_package_that_a_checkpoint_names_is_named():
    data = zoo.saved({"a": zoo.Settings()}).replace(b"ctests.data.zoo\nSettings\n", b"ctests_data_zoo\nSettings\n")
    with pytest.raises(MissingPackage, match=r"'tests_data_zoo'.*pip install tests_data_zoo") as refused:
        loaded(data, weights_only=False)
    assert isinstance(refused.value, HoldfastError)
    assert isinstance(refused.value, ModuleNotFoundError)


@pytest.mark.parametrize("is_imported", [False, True])
def test_torchao_is_to_be_imported_first(monkeypatch, is_imported):
    """torchao allows its tensors when it is imported."""
    monkeypatch.delitem(sys.modules, "torchao", raising=False)
    if is_imported:
        monkeypatch.setitem(sys.modules, "torchao", ModuleType("torchao"))
    data = zoo.saved({"a": zoo.Settings()}).replace(b"ctests.data.zoo\nSettings\n", b"ctorchao.module\nSettings\n")
    with pytest.raises(UnsafeCheckpoint) as refused:
        loaded(data)
    assert ("import torchao before" in str(refused.value)) == (not is_imported)
