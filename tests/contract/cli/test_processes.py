"""The command in its own process: on a terminal, in a pipe, without the extra, and for shell completion."""

import os
import shlex
import shutil
import subprocess
import sys

import pytest

from holdfast import __version__
from holdfast.cli import app, completion, sync_only
from holdfast.cli.statuses import Status
from tests.support.deadlines import DEADLINE_S
from tests.support.live import PROJECT
from tests.support.terminal import HOLDFAST, Terminal
from tests.support.tokens import mint

ESC = "\x1b["
MIB = 1024 * 1024
SHOW_AT_ONCE = """
import sys
from holdfast._transfer import progress
from holdfast.cli import main
progress._DELAY_S = 0
sys.exit(main(sys.argv[1:]))
"""
AT_ONCE = [sys.executable, "-c", SHOW_AT_ONCE]
WITHOUT_EXTRA = """
import sys
from importlib.abc import MetaPathFinder
class Missing(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] in ("typer", "rich"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Missing())
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name: None if name in ("typer", "rich") else found(name)
from holdfast.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(autouse=True)
def _url(server, monkeypatch):
    monkeypatch.setenv("HOLDFAST_URL", server.url)
    monkeypatch.delenv("NO_COLOR", raising=False)


def run(*arguments, command=HOLDFAST, **environment):
    done = subprocess.run(
        [*command, *arguments],
        cwd=PROJECT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        stdin=subprocess.DEVNULL,
    )
    return done.returncode, done.stdout, done.stderr


def test_a_terminal_shows_titles_colours_and_whole_names(server, directory):
    name = "a-rather-long-name-" * 5
    server.save(directory, name=name, metric=0.5)
    with Terminal([*HOLDFAST, "ls", directory], columns=60) as terminal:
        assert terminal.wait() == 0
    assert all(word in terminal.shown for word in ("NAME", "METRIC", ESC, name, "just now"))


def test_no_colour_where_none_is_wanted(server, directory):
    server.save(directory, epoch=1)
    with Terminal([*HOLDFAST, "ls", directory], NO_COLOR="1") as terminal:
        assert terminal.wait() == 0
    assert "[32m" not in terminal.shown


def test_a_removal_is_asked_about_on_a_terminal(server, directory):
    server.save(directory, b"bytes", epoch=1)
    command = [*HOLDFAST, "rm", f"{directory}/latest"]
    question = f"Remove {directory}/checkpoint_epoch_0001.pt (5 B)? [y/N] "
    with Terminal(command) as terminal:
        terminal.until(question)
        terminal.type("n\n")
        assert terminal.wait() == Status.NO
    assert len(server.names(directory)) == 1
    with Terminal(command) as terminal:
        terminal.until(question)
        terminal.type("\x03")
        assert terminal.wait() == Status.INTERRUPTED
        assert "Traceback" not in terminal.shown
    assert len(server.names(directory)) == 1
    with Terminal(command) as terminal:
        terminal.until(question)
        terminal.type("y\n")
        assert terminal.wait() == 0
        assert "cannot be undone" in terminal.shown
    assert server.names(directory) == []


def test_long_transfers_have_a_bar_on_a_terminal_and_raw_bytes_are_not_shown_there(server, directory, tmp_path):
    (tmp_path / "a.bin").write_bytes(os.urandom(33 * MIB))
    with Terminal([*AT_ONCE, "put", str(tmp_path / "a.bin"), directory]) as terminal:
        assert terminal.wait() == 0
    assert "read a.bin: 100%" in terminal.shown
    assert "save a.bin: 100%" in terminal.shown
    assert f"{directory}/a.bin is saved (33.0 MiB)" in terminal.shown
    fetch = f"{shlex.join(AT_ONCE)} get {directory}/a.bin -o - > {tmp_path / 'b.bin'}"
    with Terminal(["sh", "-c", fetch]) as terminal:
        assert terminal.wait() == 0
    assert "load a.bin: 100%" in terminal.shown
    assert (tmp_path / "b.bin").read_bytes() == (tmp_path / "a.bin").read_bytes()
    with Terminal([*HOLDFAST, "get", f"{directory}/a.bin", "-o", "-"]) as terminal:
        assert terminal.wait() == Status.MISUSE
    assert "redirect standard output to a file" in terminal.shown


def test_a_closed_pipe_is_no_error(server, directory):
    server.save(directory, os.urandom(9 * MIB), name="large.bin")
    for epoch in range(3):
        server.save(directory, epoch=epoch)
    for command in (f"ls {directory}", f"get {directory}/large.bin -o -", f"ls {directory} --json"):
        piped = f"{' '.join(HOLDFAST)} {command} | head -c 5 > /dev/null; exit ${{PIPESTATUS[0]}}"
        done = subprocess.run(["bash", "-c", piped], cwd=PROJECT, capture_output=True, text=True, timeout=DEADLINE_S)
        assert (done.returncode, done.stderr) == (0, ""), command


def test_without_the_extra_sync_works_and_the_rest_says_what_is_missing(spool):
    bare_command = [sys.executable, "-c", WITHOUT_EXTRA]
    assert run("sync", command=bare_command) == (0, f"nothing waits in {spool}\n", "")
    for arguments in (["ls"], [], ["--version"]):
        assert run(*arguments, command=bare_command) == (Status.MISUSE, "", f"{sync_only.MISSING}\n")
    status, _, complaints = run("sync", "--patience", "long", command=bare_command)
    assert (status, "usage: holdfast sync" in complaints) == (Status.MISUSE, True)


def test_sync_has_the_same_options_with_and_without_the_extra():
    from typer.main import get_command

    ours = {name for parameter in get_command(app.app).commands["sync"].params for name in parameter.opts}
    theirs = {name for action in sync_only.parser()._actions for name in action.option_strings}
    assert ours - {"--json", "--help", "-h"} == theirs - {"--help", "-h"}


def test_the_client_alone_imports_no_command_line():
    check = "import sys, holdfast; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert {"typer", "holdfast.cli"}.isdisjoint(done.stdout.split())


def test_the_version_and_the_help(holdfast):
    assert holdfast("--version").said == f"{__version__}\n"
    shown = holdfast("--help")
    assert (shown.status, shown.complaints) == (0, "")
    assert all(f"  {name} " in shown.said for name in [*app.COMMANDS, "sync"])
    assert holdfast("get", "--help").said.startswith("Usage: holdfast get [OPTIONS] {CHECKPOINT} [WHICH]\n")
    nothing = holdfast()
    assert (nothing.status, nothing.raw, nothing.complaints.count("\n")) == (Status.MISUSE, b"", 1)


def completed(words, shell="bash", **environment):
    asked = {"_HOLDFAST_COMPLETE": f"complete_{shell}", "COMP_WORDS": f"holdfast {words}", **environment}
    asked["COMP_CWORD"] = str(len(words.split()))
    status, said, complaints = run(**asked)
    assert (status, complaints) == (0, "")
    return said.split()


def test_a_shell_completes_names_of_the_server(server, directory, free_port):
    for name in ("one.pt", "other.pt", "two.pt"):
        server.save(directory, name=name, metric=1)
    assert completed(f"get {directory}/o") == [f"{directory}/one.pt", f"{directory}/other.pt"]
    assert completed(f"get {directory}/o", HOLDFAST_URL=f"http://127.0.0.1:{free_port}") == []


def test_bash_is_offered_no_name_that_it_takes_apart(server, directory):
    for name in ("a plain one.pt", "a-plain-one.pt"):
        server.save(directory, name=name)
    assert completed(f"get {directory}/a") == [f"{directory}/a-plain-one.pt"]


def test_which_names_are_offered(server, directory, monkeypatch):
    server.save(directory, name="one.pt", metric=1)
    above = directory.rpartition("/")[0]
    assert completion.directory_names(f"{above}/ch") == completion.checkpoint_names(f"{above}/ch") == [directory]
    assert completion.checkpoint_names(f"{directory}/") == [
        f"{directory}/{name}" for name in ("best", "latest", "one.pt")
    ]
    assert completion.directory_names(f"{directory}/") == []
    assert completion.checkpoint_names("no/where") == completion.checkpoint_names("../x") == []
    monkeypatch.setenv("HOLDFAST_PREFIX", above)
    assert completion.directory_names("ch") == ["checkpoints"]


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_the_script_for_the_shell_is_one_that_bash_takes():
    shell = f"bash -c '{' '.join(HOLDFAST)} --show-completion; true'"  # it looks for the shell that started it
    done = subprocess.run(shell, shell=True, cwd=PROJECT, capture_output=True, text=True, timeout=DEADLINE_S)
    assert "_HOLDFAST_COMPLETE=complete_bash" in done.stdout
    assert subprocess.run(["bash", "-n"], input=done.stdout, text=True, timeout=DEADLINE_S).returncode == 0


@pytest.mark.parametrize(
    "command",
    [
        ["ls", "s3://bucket/a"],
        ["show", "~/runs/a"],
        ["tensors", "runs/*/best"],
        ["diff", "$RUN/a.pt", "runs/a/b.pt"],
        ["get", "C:\\runs\\a", "best"],
        ["get", "runs/a", "*.pt"],
        ["pin", "http://host/runs/a/best"],
        ["tag", "runs/a/best", "--add", "a/b"],
        ["rm", "--yes", "runs/a/*"],
        ["rm", "--all", "--yes", "runs/*"],
        ["restore", "runs/a/a\\b"],
        ["prune", "%RUN%/a", "--yes"],
        ["prune", "--prefix", "~", "--yes"],
        ["watch", "file:///runs", "--timeout", "0.1"],
        ["put", __file__, "s3://bucket/a"],
        ["put", __file__, "runs/a", "--name", "a/b"],
        ["put", __file__, "runs/a", "--tag", "#1"],
        ["doctor", "--directory", "~/a"],
    ],
    ids=lambda command: " ".join(map(os.path.basename, command)),
)
def test_what_is_no_name_is_refused_by_every_command(holdfast, command):
    done = holdfast(*command)
    assert (done.status, done.raw) == (Status.MISUSE, b"")
    assert "cannot be a" in done.complaints


def test_out_of_reach_is_said_with_what_to_do(holdfast, guarded, monkeypatch):
    monkeypatch.setenv("HOLDFAST_TOKEN", mint(guarded.root, "read", prefix="team"))
    done = holdfast("show", "runs/a", "--server", guarded.url)
    assert done.status == Status.NOT_ALLOWED
    assert "set HOLDFAST_PREFIX to 'team'" in done.complaints
    monkeypatch.setenv("HOLDFAST_PREFIX", "team")
    done = holdfast("show", "runs", "--server", guarded.url)
    assert done.status == 0
