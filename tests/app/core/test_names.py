"""Names of directories, checkpoints, files and tags: those accepted unchanged, and all that are refused."""

import posixpath
import unicodedata
from datetime import UTC, datetime
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.core import names
from app.core.errors import InvalidName

GRAMMARS = {
    "directory": names.directory_name,
    "checkpoint": names.checkpoint_name,
    "file": names.file_path,
    "tag": names.tag,
}
every_grammar = pytest.mark.parametrize("grammar", GRAMMARS.values(), ids=GRAMMARS.keys())
HOSTILE = st.text(st.sampled_from("./\\%2eE;#?\0\n ~aé\u0301\u202e\u200b\ud800:"), max_size=8)


@every_grammar
@pytest.mark.parametrize(
    "text",
    [
        pytest.param("checkpoint_epoch_0100.pt", id="what save makes"),
        pytest.param("lr=1e-3,bs=32 (run 2) [a] {b} +c @d ~e :f", id="all the punctuation"),
        pytest.param("Größe-学习-٣", id="letters and numbers of any script"),
        pytest.param("a..b", id="dots within"),
        pytest.param("é" * 100, id="as long as can be"),
    ],
)
def test_ordinary_names_are_taken_as_they_are(grammar, text):
    assert grammar(text) == text


@every_grammar
@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param(".", id="the folder itself"),
        pytest.param("..", id="the folder above"),
        pytest.param("../a", id="a neighbour"),
        pytest.param("a/../../b", id="up and away"),
        pytest.param("a/./b", id="a detour"),
        pytest.param("/etc", id="absolute"),
        pytest.param("//host/share", id="a network share"),
        pytest.param("a//b", id="an empty component"),
        pytest.param("a/", id="a slash at the end"),
        pytest.param("..\\a", id="a backslash"),
        pytest.param("C:\\a", id="a drive"),
        pytest.param("a\0b", id="NUL"),
        pytest.param("a\nb", id="a new line"),
        pytest.param("%2e%2e", id="an encoded dot"),
        pytest.param("a%2fb", id="an encoded slash"),
        pytest.param("a;b", id="a semicolon"),
        pytest.param("a#b", id="a fragment"),
        pytest.param("a?b", id="a query"),
        pytest.param("a&b", id="an ampersand"),
        pytest.param("a*b", id="a wildcard"),
        pytest.param("a'b", id="a quote"),
        pytest.param('a"b', id="a double quote"),
        pytest.param("a<b", id="markup"),
        pytest.param("$HOME", id="a variable"),
        pytest.param(" a", id="a space before"),
        pytest.param("a ", id="a space after"),
        pytest.param("a.", id="a dot at the end"),
        pytest.param(".holdfast", id="the server's own folder"),
        pytest.param(".HoldFast", id="the server's own folder where case does not count"),
        pytest.param("x/.holdfast/y", id="the server's own folder on the way"),
        pytest.param("e\u0301", id="not NFC"),
        pytest.param("a\u200bb", id="an invisible character"),
        pytest.param("a\ufe0fb", id="a mark that is not seen"),
        pytest.param("a\u3164b", id="a letter that is not seen"),
        pytest.param(".holdfa\u017ft", id="the server's own folder with a long s"),
        pytest.param("a\u202eb", id="text that runs backwards"),
        pytest.param("a\u00a0b", id="a space that is none"),
        pytest.param("\ud800", id="half a character"),
        pytest.param("a" * 201, id="a component too long"),
        pytest.param("é" * 101, id="a component of too many bytes"),
    ],
)
def test_what_could_mislead_is_refused(grammar, text):
    with pytest.raises(InvalidName):
        grammar(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("", "directory name '' has an empty component", id="nothing"),
        pytest.param("/etc", "directory name '/etc' is absolute", id="absolute"),
        pytest.param(".a", "begins with a dot", id="a dot before"),
        pytest.param("a.", "ends with a dot", id="a dot after"),
        pytest.param("é;", "directory name 'é;' contains ';'", id="a semicolon"),
        pytest.param('é (x) ".pt', "directory name 'é \\(x\\) \".pt' contains", id="as it was given"),
        pytest.param("runs/mine/", "directory name 'runs/mine/' has an empty component", id="the whole name"),
        pytest.param(
            "runs/.a/b", "directory name 'runs/.a/b' has a component that begins with a dot", id="a part of it"
        ),
        pytest.param("a\x1bb", r"directory name 'a\\x1bb' contains '\\x1b'", id="what upsets terminals"),
        pytest.param("e\u0301", "NFC", id="not NFC"),
        pytest.param("a" * 201, r"name 'a{201}' has a component longer than 200 bytes", id="a component too long"),
        pytest.param("a/" * 600, "directory name is longer than 1024 bytes", id="too long"),
    ],
)
def test_the_refusal_says_what_is_wrong(text, reason):
    with pytest.raises(InvalidName, match=reason):
        names.directory_name(text)


@pytest.mark.parametrize("text", [".metadata", "__0_0.distcp/.part", "..a"])
def test_only_files_within_a_checkpoint_may_begin_with_a_dot(text):
    assert names.file_path(text) == text
    for grammar in (names.directory_name, names.checkpoint_name, names.tag):
        with pytest.raises(InvalidName):
            grammar(text)


@pytest.mark.parametrize("text", ["runs/experiment/checkpoints", "a/b"])
def test_only_directories_and_files_have_several_components(text):
    assert names.directory_name(text) == names.file_path(text) == text
    for grammar in (names.checkpoint_name, names.tag):
        with pytest.raises(InvalidName):
            grammar(text)


def test_no_checkpoint_takes_the_name_of_the_directorys_own_record():
    with pytest.raises(InvalidName):
        names.checkpoint_name("directory")
    assert names.directory_name("directory") == names.checkpoint_name("directory.pt")[:-3] == "directory"


@pytest.mark.parametrize("grammar", [names.directory_name, names.file_path])
def test_a_path_has_at_most_1024_bytes(grammar):
    longest = "/".join(["é" * 100] * 5) + "/" + "a" * 19
    assert len(longest.encode()) == 1024
    assert grammar(longest) == longest
    with pytest.raises(InvalidName):
        grammar(longest + "a")


@pytest.mark.parametrize("what", GRAMMARS)
@given(HOSTILE | st.text())
@example("a:b")
def test_no_accepted_name_leaves_the_root_or_hides_what_it_is(what, text):
    try:
        name = GRAMMARS[what](text)
    except InvalidName as refusal:
        refusal.detail.encode()  # every refusal can be sent
        return
    assert name == text
    assert posixpath.normpath(f"/root/{name}") == f"/root/{name}"
    assert unquote(name) == name == unicodedata.normalize("NFC", name)
    assert name.isprintable()
    assert not set(name) & set("\\;#?%*&<>|\"'`$")
    for component in name.split("/"):
        assert what == "file" or not component.startswith(".")
        assert component.lower() != ".holdfast"
        assert component == component.strip()
        assert len(component.encode()) <= 200


@pytest.mark.parametrize(
    ("kind", "epoch", "step", "name"),
    [
        pytest.param("regular", 100, None, "checkpoint_epoch_0100.pt", id="an epoch"),
        pytest.param("regular", 0, None, "checkpoint_epoch_0000.pt", id="epoch 0"),
        pytest.param("regular", 123456, None, "checkpoint_epoch_123456.pt", id="more than four digits"),
        pytest.param("regular", None, 12000, "checkpoint_step_00012000.pt", id="a step"),
        pytest.param("regular", 3, 0, "checkpoint_epoch_0003_step_00000000.pt", id="an epoch and step 0"),
        pytest.param("regular", None, 10**9, "checkpoint_step_1000000000.pt", id="more than eight digits"),
        pytest.param("best", 7, None, "best_epoch_0007.pt", id="a best one"),
        pytest.param("best", 7, 70, "best_epoch_0007_step_00000070.pt", id="a best one with a step"),
        pytest.param("regular", None, None, "checkpoint_20261123T140501_b513accf9c8b.pt", id="neither"),
        pytest.param("best", None, None, "best_20261123T140501_b513accf9c8b.pt", id="a best one with neither"),
    ],
)
def test_a_checkpoint_without_a_name_is_called_after_its_epoch_and_step_or_its_time(kind, epoch, step, name):
    assert names.default_name(kind, epoch, step, datetime(2026, 11, 23, 14, 5, 1, 999, UTC), "3f9abcde") == name


@given(
    st.sampled_from(["regular", "best"]),
    st.none() | st.integers(0, 2**53),
    st.none() | st.integers(0, 2**53),
    st.datetimes(min_value=datetime(1970, 1, 1), timezones=st.just(UTC)),
    st.from_regex(r"[A-Za-z0-9_-]{8,64}", fullmatch=True),
)
def test_the_server_can_take_every_name_that_it_gives(kind, epoch, step, at, save_id):
    name = names.default_name(kind, epoch, step, at, save_id)
    assert names.checkpoint_name(name) == name


# unsafe text is shown escaped


@pytest.mark.parametrize(
    ("text", "keep", "shown"),
    [
        pytest.param("größe 한", "", "größe 한", id="letters of any script"),
        pytest.param("\\x1b", "", "\\x1b", id="what looks like an escape"),
        pytest.param("a\x1b[2Jb\x9b", "", "a\\x1b[2Jb\\x9b", id="control characters"),
        pytest.param("a\nb\r\t", "", "a\\nb\\r\\t", id="line ends"),
        pytest.param("a\nb\r\t", "\n\t", "a\nb\\r\t", id="line ends that may stay"),
        pytest.param("a\u202eb\u200b", "", "a\\u202eb\\u200b", id="what turns or hides text"),
        pytest.param("a\udcffb", "", "a\\udcffb", id="bytes that are no text"),
    ],
)
def test_what_cannot_be_shown_is_escaped(text, keep, shown):
    assert names.escaped(text, keep=keep) == shown
    assert names.escaped(shown, keep=keep) == shown
