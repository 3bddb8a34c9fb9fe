"""The pages of the reference name everything that is there."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command

import app.core.errors
import holdfast
from app.cli import commands, exits
from app.settings import Settings
from holdfast.cli.app import app as command_line
from holdfast.cli.statuses import Status
from tests.support.live import PROJECT


def text(name: str) -> str:
    return (PROJECT / name).read_text()


def refusals() -> list[type[app.core.errors.Refusal]]:
    return [app.core.errors.Refusal, *app.core.errors.Refusal.__subclasses__()]


def test_codes_are_unique_and_every_one_is_documented():
    codes = [refusal.code for refusal in refusals()]
    assert len(set(codes)) == len(codes)
    documented = set(re.findall(r"`([a-z_]+)`", text("docs/reference/api.md")))
    assert set(codes) <= documented


def test_every_refusal_has_a_status_of_its_own_choice():
    assert all("status" in vars(refusal) and 400 <= refusal.status < 600 for refusal in refusals())


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_every_setting_is_documented(name):
    assert f"HOLDFAST_{name.upper()}" in text("docs/how-to/operations.md")


def commands_of(group: Any, path: str = "holdfast-server") -> Iterator[tuple[str, Any]]:
    """Every command of the command line with its whole name."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands_of(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def test_every_command_of_the_server_and_every_flag_is_documented():
    documented = text("docs/reference/server-cli.md")
    rows = {
        row[1]: row[0] for row in re.findall(r"^(\| `(holdfast-server [a-z -]*[a-z]).*)$", documented, re.MULTILINE)
    }
    found = dict(commands_of(commands.command_line()))
    assert rows.keys() == found.keys()
    for name, command in found.items():
        for option in (option for parameter in command.params for option in parameter.opts if option.startswith("-")):
            if option not in {"--root", "--database-url", "--help", "-h"} and name != "holdfast-server serve":
                assert f"`{option}" in rows[name], f"{name} {option}"
    for option in (
        "--root",
        "--database-url",
        "--version",
        "--install-completion",
        "--show-completion",
        "--help",
        "-h",
    ):
        assert f"`{option}`" in documented, option
    serving = {option for parameter in found["holdfast-server serve"].params for option in parameter.opts}
    for option in serving - {"--help", "-h"}:
        assert f"`{option}`" in text("docs/how-to/operations.md"), option


def test_every_exit_status_is_documented():
    documented = text("docs/reference/server-cli.md")
    ended = (exits.CANNOT_RUN, exits.DEFECT, exits.INTERRUPTED, exits.PIPE_CLOSED)
    for status in (0, 1, 4, *ended):
        assert f"\n| {status} | " in documented, status


def test_every_route_is_documented():
    documented = text("docs/reference/api.md")
    for path, operations in json.loads(text("openapi.json"))["paths"].items():
        for method in operations:
            assert re.search(rf"{method.upper()}\b.*{re.escape(path)}", documented), f"{method} {path}"


def test_every_event_and_every_metric_is_documented():
    documented = text("docs/reference/api.md") + text("docs/how-to/operations.md")
    sources = "".join(path.read_text() for path in (PROJECT / "app").rglob("*.py"))
    events = set(re.findall(r'events\.add\(\s*"([a-z_.]+)"', sources))
    metrics = set(re.findall(r'"(holdfast_[a-z_]+)"', sources))
    assert len(events) >= 4
    assert len(metrics) >= 6
    for name in events | metrics:
        assert name in documented, name


def test_every_error_of_the_client_is_documented():
    for name in holdfast.__all__:
        assert name in text("docs/reference/client.md"), name


COMMANDS = get_command(command_line).commands  # type: ignore[attr-defined]
EVERYWHERE = {"--server", "--json", "--help", "-h"}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_every_option_is_documented_in_its_own_section(name):
    section = re.search(
        rf"^### holdfast {name}\n(.*?)(?=^##|\Z)", text("docs/reference/cli.md"), re.MULTILINE | re.DOTALL
    )
    assert section is not None, name
    options = {option for parameter in COMMANDS[name].params for option in parameter.opts if option.startswith("-")}
    for option in options - EVERYWHERE:
        assert re.search(rf"`[^`\n]*{re.escape(option)}\b[^`\n]*`", section[1]), f"{name} {option}"


def test_what_all_commands_have_and_every_status_is_documented():
    common = text("docs/reference/cli.md").partition("## Looking")[0]
    for option in {*EVERYWHERE, "--version", "--install-completion", "--show-completion"}:
        assert option in common, option
    documented = {int(status) for status in re.findall(r"^\| (\d+) \|", common, re.MULTILINE)}
    assert documented == {int(status) for status in Status}
