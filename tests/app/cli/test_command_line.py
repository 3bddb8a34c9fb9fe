"""The command line: its arguments, its output for people and for scripts, and its exit statuses."""

import json
import os
import re
import signal
import subprocess
import sys

import httpx
import pytest

import app
from app.bootstrap import open_root
from app.cli import commands, exits
from app.core.access import SCOPES
from app.settings import Settings
from tests.support.commands import piped, seen
from tests.support.deadlines import DEADLINE_S
from tests.support.live import PROJECT

ESCAPE = "\x1b"


def run(*arguments, **environment):
    command = [sys.executable, "-m", "app", *map(str, arguments)]
    variables = {**os.environ, **environment}
    return subprocess.run(
        command, cwd=PROJECT, env=variables, capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )


@pytest.fixture
def root(tmp_path):
    """A root with two checkpoints that were adopted."""
    open_root(Settings(root=tmp_path / "root")).close()
    put(tmp_path / "root/runs/a", "first.pt", "second.pt")
    assert piped("adopt", tmp_path / "root/runs", "--root", tmp_path / "root").status == 0
    return tmp_path / "root"


def put(folder, *names):
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_bytes(b"\x80\x02" + (name.encode() * 1000)[2:])


def damage(root):
    """Three faults, of which one can be repaired."""
    file = root / "runs/a/first.pt"
    file.write_bytes(b"F" + file.read_bytes()[1:])
    (root / "runs/a/.holdfast/second.pt.json").unlink()
    (root / "runs/a/notes.txt").write_text("by hand")


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        pytest.param({"HOLDFAST_PORT": "many"}, "HOLDFAST_PORT", id="a port that is no number"),
        pytest.param({"HOLDFAST_ALLOWED_HOSTS": "[foo"}, "ALLOWED_HOSTS", id="hosts that are no list"),
        pytest.param({"HOLDFAST_DATABASE_URL": "postgresql://x/y"}, "postgresql", id="another database"),
        pytest.param({"HOLDFAST_DATABASE_URL": "nonsense"}, "database", id="no URL"),
        pytest.param({"HOLDFAST_DATABASE_URL": "sqlite:////nowhere/x.db"}, "nowhere", id="a database out of reach"),
        pytest.param({"HOLDFAST_HOST": "0.0.0.0"}, "HOLDFAST_ADMIN_TOKEN", id="open to all without a token"),
        pytest.param({"HOLDFAST_ROOT": "/dev/null"}, "/dev/null", id="a root that is a file"),
    ],
)
def test_a_server_that_cannot_start_says_why_in_words(tmp_path, environment, said):
    done = run("serve", **{"HOLDFAST_ROOT": str(tmp_path / "root"), "HOLDFAST_PORT": "0", **environment})
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_the_version_is_told():
    assert run("--version").stdout.strip() == app.__version__


def test_what_only_speaks_does_not_wait_for_what_serves():
    asked = "import sys; from app.__main__ import main; main(['fsck', '--help']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", asked], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert {"fastapi", "sqlalchemy", "uvicorn", "rich"}.isdisjoint(done.stdout.split())
    assert "typer" in done.stdout.split()


def test_every_command_explains_itself():
    assert {"serve", "reindex", "openapi"} <= set(piped("--help").out.replace(",", " ").split())
    assert piped("serve", "-h") == piped("serve", "--help")
    assert "repair" in piped("fsck", "--help").out


def test_flags_are_those_of_the_settings():
    said = " ".join(piped("serve", "--help").out.split())
    for name, info in Settings.model_fields.items():
        if name in {"admin_token", "quotas"}:
            assert f"--{name} " not in said
        else:
            assert f"--{name.replace('_', '-')} " in said
            assert f"env var: HOLDFAST_{name.upper()}; default: " in said
            assert info.description in said
    assert "HOLDFAST_PORT; default: (8420)" in said
    assert "HOLDFAST_DATABASE_URL; default: (in the root)" in said


def test_the_token_cannot_be_given_where_others_see_it():
    done = piped("serve", "--token", "a secret that others could see")
    assert (done.status, "No such option" in done.err) == (2, True)


def test_a_flag_is_stronger_than_its_variable(root, monkeypatch):
    monkeypatch.setenv("HOLDFAST_ROOT", "/nowhere")
    assert piped("fsck", "--dry-run", "--root", root).status == 0
    done = piped("fsck", "--dry-run")
    assert (done.status, "/nowhere" in done.err) == (2, True)
    monkeypatch.setenv("HOLDFAST_ROOT", str(root))
    assert piped("fsck", "--dry-run").status == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param(["serv"], "Did you mean 'serve'?", id="a command that there is not"),
        pytest.param(["token"], "Missing command", id="none"),
        pytest.param(["fsck", "--dry"], "--dry", id="a flag that there is not"),
        pytest.param(["adopt"], "DIR", id="no folder"),
        pytest.param(["serve", "--port", "many"], "HOLDFAST_PORT", id="a port that is no number"),
        pytest.param(["serve", "--port"], "--port", id="a flag without its value"),
        pytest.param(["token", "create", "--scope", "all"], "choose from read, write", id="a scope that there is not"),
    ],
)
def test_a_misuse_is_one_line(words, said):
    done = piped(*words)
    assert (done.status, done.out) == (2, "")
    (line,) = done.err.splitlines()
    assert line.startswith("holdfast-server: ")
    assert said in line


def test_without_words_it_explains_itself():
    assert piped() == (2, piped("--help").out, "")


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        pytest.param(KeyboardInterrupt(), 130, "interrupted", id="interrupted"),
        pytest.param(OSError(5, "Input/output error"), 2, "[Errno 5] Input/output error", id="a disk that fails"),
        pytest.param(OSError(5, "a\nb"), 2, "[Errno 5] a b", id="of two lines"),
        pytest.param(KeyError("x"), 70, "a defect: KeyError: 'x' (python -X dev", id="a defect"),
    ],
)
def test_what_ends_a_command_is_one_line(capsys, error, status, said):
    def fail():
        raise error

    assert exits.run(fail) == status
    said_there = capsys.readouterr().err
    assert said_there.startswith(f"holdfast-server: {said}")
    assert said_there.count("\n") == 1


def test_whoever_stops_reading_is_no_error(root):
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "app", "openapi"]
    done = subprocess.run(command, cwd=PROJECT, stdout=writer, stderr=subprocess.PIPE, timeout=DEADLINE_S, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_fsck_tells_scripts_what_it_tells_people(root):
    damage(root)
    words = piped("fsck", "--root", root, "--dry-run")
    looked = piped("fsck", "--root", root, "--dry-run", "--json")
    done = piped("fsck", "--root", root, "--json")
    again = piped("fsck", "--root", root, "--json")
    assert [each.status for each in (words, looked, done, again)] == [4] * 4
    assert {each.err for each in (words, looked, done, again)} == {""}
    found = {fault["kind"]: fault for fault in json.loads(looked.out)["faults"]}
    assert found["altered"] == {
        "kind": "altered",
        "directory": "runs/a",
        "name": "first.pt",
        "where": "runs/a/first.pt",
        "what": "is not what was saved, in the chunk at byte 0",
        "outcome": "left",
        "reason": None,
    }
    assert (found["record"]["name"], found["record"]["outcome"]) == ("second.pt", "would_be_repaired")
    assert (found["extra"]["where"], found["extra"]["directory"]) == ("runs/a/notes.txt", None)
    for fault in found.values():
        assert f"{fault['kind']}: {fault['where']}: {fault['what']}" in words.out
    told = json.loads(done.out)
    assert (told["checkpoints"], told["repaired"], told["remaining"]) == (2, 1, 2)
    assert f"2 checkpoints, {told['bytes_read']} bytes read: 3 faults" in words.out
    assert {fault["kind"]: fault["outcome"] for fault in told["faults"]} == {
        "altered": "left",
        "record": "repaired",
        "extra": "left",
    }
    assert {fault["kind"] for fault in json.loads(again.out)["faults"]} == {"altered", "extra"}


def test_reindex_tells_scripts_what_it_tells_people(root):
    (root / "runs/a/first.pt").unlink()
    words, done = piped("reindex", "--root", root), piped("reindex", "--root", root, "--json")
    told = json.loads(done.out)
    assert (words.status, done.status, done.err) == (1, 1, "")
    assert (told["checkpoints"], told["directories"], told["remarks"]) == (1, 1, [])
    assert words.err == f"left alone: {told['faults'][0]}\n"
    assert words.out == "1 checkpoint in 1 directory\n"


def test_adopt_tells_scripts_what_it_tells_people(root):
    put(root / "runs/b", "third.pt", ".hidden.pt", "notes.txt")
    words = piped("adopt", root / "runs", "--root", root, "--dry-run")
    looked = piped("adopt", root / "runs", "--root", root, "--dry-run", "--json")
    done = piped("adopt", root / "runs", "--root", root, "--json")
    assert [each.status for each in (words, looked, done)] == [3] * 3
    told = json.loads(done.out)
    assert told == {**json.loads(looked.out), "dry_run": False}
    assert (told["taken"], told["known"], told["size_bytes"]) == (1, 2, len("third.pt") * 1000)
    assert told["directories"][1] == {
        "directory": "runs/b",
        "taken": 1,
        "size_bytes": 8000,
        "known": 0,
        "others": 1,
        "mode": None,
        "checkpoints": ["third.pt"],
    }
    assert told["left"] == [{"where": "runs/b/.hidden.pt", "why": "it is hidden", "is_missed": True}]
    assert "left alone: runs/b/.hidden.pt: it is hidden" in words.err
    assert "In all: 1 checkpoint would be taken in (1 directory), 2 known before, 1 left alone" in words.out


def test_tokens_tell_scripts_what_they_tell_people(root):
    made = json.loads(piped("token", "create", "--scope", "read", "--note", "ci", "--root", root, "--json").out)
    assert made["token"].startswith("hfst_")
    (listed,) = json.loads(piped("token", "list", "--root", root, "--json").out)
    assert {**listed, "token": made["token"]} == made
    done = piped("token", "revoke", made["id"], "0000000000", "--root", root, "--json")
    assert (done.status, done.err) == (1, "")
    assert json.loads(done.out) == {"revoked": [made["id"]], "unknown": ["0000000000"]}


def test_into_a_pipe_nothing_moves_or_shines(root, monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("FORCE_COLOR", "1")
    piped("token", "create", "--scope", "read", "--root", root)
    for words in (["fsck"], ["reindex"], ["adopt", root / "runs"], ["token", "list"]):
        done = piped(*words, "--root", root)
        assert (ESCAPE in done.out, done.err) == (False, ""), words
    assert re.fullmatch(r"ID +SCOPES +PREFIX +CREATED +EXPIRES +STATE +NOTE\n\w{10}  read .* valid\n", done.out)
    assert "\u256d" not in piped("serve", "--help").out


def test_on_a_terminal_there_are_bars_colours_and_tables(root):
    damage(root)
    status, said = seen("fsck", "--root", root)
    assert status == 4, said
    assert "reading back" in said
    assert f"{ESCAPE}[1;31maltered" in said
    assert f"{ESCAPE}[1;32mrecord" in said
    assert seen("reindex", "--root", root)[1].count("reading manifests") >= 1
    put(root / "runs/b", "third.pt")
    status, said = seen("adopt", root / "runs", "--root", root)
    assert status == 0
    assert "taking in" in said
    assert "runs/b: 1 checkpoint taken in" in said
    piped("token", "create", "--scope", "read", "--root", root)
    table = seen("token", "list", "--root", root)[1]
    assert "╭" in table
    assert f"{ESCAPE}[32mvalid" in table
    assert "╭" in seen("serve", "--help")[1]


def test_colours_can_be_taken_off(root):
    piped("token", "create", "--scope", "read", "--root", root)
    said = seen("token", "list", "--root", root, NO_COLOR="1")[1]
    assert "╭" in said
    assert not re.search(rf"{ESCAPE}\[(\d+;)*3\d", said)
    assert seen("token", "list", "--root", root, TERM="dumb")[1].replace("\r", "") == (
        piped("token", "list", "--root", root).out
    )


def test_json_is_json_on_a_terminal_too(root):
    said = seen("token", "list", "--root", root, "--json")[1]
    assert json.loads(said) == []


def test_a_server_before_a_terminal_says_what_people_want_to_know(tmp_path):
    outer, inner = os.openpty()
    command = [sys.executable, "-m", "app", "serve", "--port", "0", "--root", str(tmp_path / "root")]
    variables = {**os.environ, "TERM": "xterm", "NO_COLOR": "1"}
    with subprocess.Popen(command, cwd=PROJECT, env=variables, stdout=inner, stderr=subprocess.PIPE) as server:
        try:
            os.close(inner)
            said = ""
            while "Ctrl-C" not in said:
                said += os.read(outer, 65536).decode()
            plain = re.sub(rf"{ESCAPE}\[[\d;]*m", "", said).splitlines()
            url = re.search(r"at (http://127.0.0.1:\d+)$", plain[0])[1]
            httpx.get(f"{url}/health/ready").raise_for_status()
            server.send_signal(signal.SIGINT)
            assert server.wait(timeout=DEADLINE_S) == 0
        finally:
            server.kill()
            os.close(outer)
    assert plain[1:3] == [f"  Dashboard  {url}/", f"  API        {url}/docs"]
    assert "none is needed" in plain[3]
    assert plain[4].startswith("  To stop    Ctrl-C")


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        pytest.param(
            "holdfast-server ", {"serve", "reindex", "adopt", "fsck", "compact", "token", "openapi"}, id="commands"
        ),
        pytest.param("holdfast-server fsck --", {"--root", "--dry-run", "--json"}, id="flags"),
        pytest.param("holdfast-server token create --scope ", set(SCOPES), id="scopes"),
    ],
)
def test_shells_complete_it(capsys, monkeypatch, typed, offered):
    monkeypatch.setenv("_HOLDFAST_SERVER_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", str(len(typed.split(" ")) - 1))
    with pytest.raises(SystemExit):
        commands.command_line().main(args=[], prog_name="holdfast-server")
    assert offered <= set(capsys.readouterr().out.split())


def test_completion_can_be_installed():
    assert {"--install-completion", "--show-completion"} <= set(piped("--help").out.split())
