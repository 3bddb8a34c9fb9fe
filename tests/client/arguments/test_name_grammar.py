"""Client and server agree on names; a URL and the like is refused with advice."""

from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.core import names
from app.core.errors import InvalidName
from holdfast import CheckpointManager, InvalidRequest, save_checkpoint_with_cleanup
from holdfast._arguments import name_grammar
from holdfast._arguments.name_mapping import directory_name, prefix_of

PAIRS = {
    "directory": (name_grammar.check_directory, names.directory_name),
    "checkpoint": (name_grammar.check_checkpoint, names.checkpoint_name),
    "tag": (name_grammar.check_tag, names.tag),
}
NAMES = st.text(st.sampled_from("ab./~:=,[]{}()@+-_ \\%$*?#;&!'\"\n\0éA\u0301\u202e\u200b\ud800\u3164٣学"), max_size=12)


def takes(grammar, name):
    try:
        return grammar(name) == name
    except (InvalidName, InvalidRequest):
        return False


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
@given(name=NAMES | st.text(max_size=20))
@example("directory")
@example("a" * 200)
@example("a" * 201)
@example("é" * 101)
@example("/".join(["a" * 100] * 11))
@example(".holdfast")
@example("a/.holdfast/b")
@example("runs/lr=0.1,bs=32")
@example("run[1]")
def test_client_and_server_take_the_same_names(pair, name):
    ours, theirs = pair
    assert takes(ours, name) == takes(theirs, name)


MEANT = [
    "runs/lr=0.1,bs=32",
    "run[1]/{a}",
    "a~b",
    "runs/lr:0.1",
    "x@y+z",
    "Größe-学习",
    "/scratch/me/run",
    "12:30:00/a",
    "gs:1.5/a",
    "files:a/b",
    "localhost/a",
    "resnet.a:10/b",
    "me@home/a",
    "model@v1.0:3/a",
]
UNMEANT = {
    "s3://bucket/run": "it is a URL",
    "gs://bucket": "it is a URL",
    "http://host/runs/a": "it is a URL",
    "holdfast://host/runs/a": "it is a URL",
    "file:///x": "it is a URL",
    "s3:bucket/run": "it begins like a URL",
    "file:x": "it begins like a URL",
    "https:host/runs": "it begins like a URL",
    "localhost:8420/runs": "it begins like a URL",
    "127.0.0.1:8420/runs": "it begins like a URL",
    "[::1]:80/runs": "it begins like a URL",
    "checkpoints.example:8420/runs": "it begins like a URL",
    "me@host:/runs": "it names an account",
    "git@host.example:me/runs": "it names an account",
    "abfss+x://c@a/b": "it is a URL",
    "/scratch/s3://bucket/a": "it is a URL",
    "~/runs/a": "'~' means a home directory",
    "~": "'~' means a home directory",
    "~someone/a": "'~' means a home directory",
    "C:\\runs\\a": "it begins with a drive",
    "C:/runs/a": "it begins with a drive",
    "d:": "it begins with a drive",
    "runs\\a": "it has a backslash",
    "$HOME/runs": "it has a variable that was not expanded",
    "runs/${NAME}": "it has a variable that was not expanded",
    "%USERPROFILE%/runs": "it has a variable that was not expanded",
    "runs/*": "it has a pattern",
    "runs/a?": "it has a pattern",
    "runs /a": "begins or ends with a space",
    "runs\n/a\n": "begins or ends with a space",
    "runs/a\tb": "which names may not have",
    "runs/\x1b[31m": "which names may not have",
    ".cache/run": "begins with a dot",
}


@pytest.mark.parametrize("name", MEANT)
def test_a_name_is_a_name(name):
    assert CheckpointManager(name).checkpoint_dir == Path(name)


@pytest.mark.parametrize(("name", "why"), UNMEANT.items(), ids=UNMEANT)
def test_what_is_no_name_is_refused_everywhere(name, why):
    manager = CheckpointManager("runs/a")
    for refusing in (
        lambda: CheckpointManager(name),
        lambda: CheckpointManager(Path(name)),
        lambda: CheckpointManager("runs/a", base=f"{name}/a.pt"),
        lambda: manager.load(f"{name}/a.pt"),
        lambda: manager.download(Path(f"{name}/a.pt")),
        lambda: save_checkpoint_with_cleanup({}, name),
        lambda: prefix_of(f"{name}/team"),
    ):
        with pytest.raises(InvalidRequest) as caught:
            refusing()
        assert caught.value.code == "invalid_name"
        assert "cannot be a" in str(caught.value)
    with pytest.raises(InvalidRequest) as caught:
        CheckpointManager(name)
    assert why in str(caught.value)
    assert str(caught.value).isascii()


@pytest.mark.parametrize("name", ["a/b.pt", "", ".hidden", "*.pt", "directory", "a" * 201, "a\\b", "a.pt "])
def test_a_file_name_that_no_checkpoint_can_have_is_refused_before_anything_is_sent(name):
    with pytest.raises(InvalidRequest):
        save_checkpoint_with_cleanup({}, "runs/a", name, server="http://127.0.0.1:9")


@pytest.mark.parametrize("given", [b"runs/a", None, 3, ["runs"]], ids=repr)
def test_what_is_no_path_is_a_type_error(given):
    with pytest.raises(TypeError):
        CheckpointManager(given)


def test_a_prefix_comes_from_its_variable(monkeypatch):
    assert [prefix_of(each) for each in ("/team/x/\n", None, " ")] == ["team/x", "", ""]
    monkeypatch.setenv("HOLDFAST_PREFIX", "s3://bucket")
    with pytest.raises(InvalidRequest, match="cannot be a HOLDFAST_PREFIX: it is a URL"):
        CheckpointManager("runs/a")


def test_every_refusal_is_a_value_error():
    assert issubclass(InvalidRequest, ValueError)


def test_a_path_of_windows_loses_its_drive():
    assert directory_name(PureWindowsPath("C:\\runs\\a"), "") == "runs/a"
    assert directory_name(PurePosixPath("runs/a"), "") == "runs/a"
