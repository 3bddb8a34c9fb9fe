"""The pages of the reference are current, and name everything that is there."""

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
from scripts.reference import pages
from scripts.reference.events import names as event_names
from tests.support.live import PROJECT

COMMANDS = get_command(command_line).commands  # type: ignore[attr-defined]
EVERYWHERE = {"--server", "--json", "--help", "-h"}


def text(name: str) -> str:
    return (pages.DOCS / name).read_text()


def section(page: str, title: str) -> str:
    """Return the text under a heading of the third level."""
    found = re.search(rf"^### {re.escape(title)}\n(.*?)(?=^##|\Z)", text(page), re.MULTILINE | re.DOTALL)
    assert found is not None, title
    return found[1]


@pytest.mark.parametrize("page", pages.PAGES)
def test_the_generated_parts_are_current(page):
    assert pages.current(page) == text(page), "scripts/check --fix writes it anew"


@pytest.mark.parametrize("page", pages.PAGES)
def test_no_cell_of_a_generated_table_lacks_its_description(page):
    for part in re.findall(r"<!-- generated: .*?-->(.*?)<!-- end -->", text(page), re.DOTALL):
        for row in re.findall(r"^\| (.*) \|$", re.sub(r"^```.*?^```", "", part, flags=re.M | re.S), re.MULTILINE):
            assert re.split(r"(?<!\\)\|", row)[-1].strip(), row


def test_a_part_that_is_not_current_is_found_and_a_hand_written_cell_is_kept(monkeypatch, tmp_path):
    monkeypatch.setattr(pages, "DOCS", tmp_path)
    page = (PROJECT / "docs" / "reference" / "errors.md").read_text()
    advice = "The token is missing, wrong, expired or revoked."
    assert advice in page
    (tmp_path / "errors.md").write_text(
        page.replace(advice, "Written by hand.").replace("| 401 | `unauthorized` |", "| 499 | `unauthorized` |")
    )
    assert "errors.md" in {name for name in ["errors.md"] if pages.current(name) != text(name)}
    pages.write("errors.md")
    assert text("errors.md") == page.replace(advice, "Written by hand.")


def test_a_page_that_lacks_a_part_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(pages, "DOCS", tmp_path)
    (tmp_path / "events.md").write_text("# Events\n")
    with pytest.raises(ValueError, match=r"not \['events'\]"):
        pages.current("events.md")


def refusals() -> list[type[app.core.errors.Refusal]]:
    return [app.core.errors.Refusal, *app.core.errors.Refusal.__subclasses__()]


def test_codes_are_unique_and_every_one_is_documented():
    codes = [refusal.code for refusal in refusals()]
    assert len(set(codes)) == len(codes)
    documented = set(re.findall(r"`([a-z_]+)`", text("errors.md")))
    assert set(codes) <= documented


def test_every_refusal_has_a_status_of_its_own_choice():
    assert all("status" in vars(refusal) and 400 <= refusal.status < 600 for refusal in refusals())


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_every_setting_is_documented(name):
    assert f"HOLDFAST_{name.upper()}" in text("settings.md")


def commands_of(group: Any, path: str = "holdfast-server") -> Iterator[tuple[str, Any]]:
    """Yield every command of the command line with its whole name."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands_of(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def test_every_command_of_the_server_and_every_flag_is_documented():
    documented = text("server-cli.md")
    found = dict(commands_of(commands.command_line()))
    assert set(re.findall(r"^### (holdfast-server .+)$", documented, re.MULTILINE)) == found.keys()
    for name, command in found.items():
        for option in (option for parameter in command.params for option in parameter.opts if option.startswith("-")):
            if option not in {"--root", "--database-url", "--help", "-h"} and name != "holdfast-server serve":
                assert f"`{option}" in section("server-cli.md", name), f"{name} {option}"
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
        assert f"`{option}`" in text("settings.md"), option


def test_every_exit_status_is_documented():
    documented = text("server-cli.md")
    ended = (exits.CANNOT_RUN, exits.DEFECT, exits.INTERRUPTED, exits.PIPE_CLOSED)
    for status in (0, 1, 4, *ended):
        assert f"\n| {status} | " in documented, status


def test_every_route_is_documented():
    documented = text("api.md")
    for path, operations in json.loads((PROJECT / "openapi.json").read_text())["paths"].items():
        for method in operations:
            assert re.search(rf"{method.upper()}\b.*{re.escape(path)}", documented), f"{method} {path}"


def test_every_query_parameter_and_every_member_of_an_answer_is_documented():
    description = json.loads((PROJECT / "openapi.json").read_text())
    operations = [operation for found in description["paths"].values() for operation in found.values()]
    parameters = [found for operation in operations for found in operation.get("parameters", ())]
    named = {found["name"] for found in parameters if found["in"] == "query"}
    named |= {name for found in description["components"]["schemas"].values() for name in found.get("properties", ())}
    documented = text("api.md") + text("errors.md") + (PROJECT / "docs" / "explanation" / "security.md").read_text()
    assert [name for name in sorted(named) if not re.search(rf"\b{name}\b", documented)] == []


def test_every_event_and_every_metric_is_documented():
    sources = "".join(path.read_text() for path in (PROJECT / "app").rglob("*.py"))
    metrics = set(re.findall(r'"(holdfast_[a-z_]+)"', sources))
    assert {"checkpoint.saved", "checkpoint.damaged", "checkpoint.intact"} <= set(event_names())
    assert len(event_names()) >= 7
    assert len(metrics) >= 6
    for name in event_names():
        assert f"`{name}`" in text("events.md"), name
    for name in metrics:
        assert name in text("metrics.md"), name


def test_the_route_of_events_names_them_all():
    described = json.loads((PROJECT / "openapi.json").read_text())["paths"]["/v1/events"]["get"]["description"]
    assert sorted(re.findall(r"`((?:catalog|checkpoint|directory)\.\w+)`", described)) == event_names()


def test_every_error_of_the_client_is_documented():
    for name in holdfast.__all__:
        assert name in text("client.md"), name


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_every_option_is_documented_in_its_own_section(name):
    options = {option for parameter in COMMANDS[name].params for option in parameter.opts if option.startswith("-")}
    for option in options - EVERYWHERE:
        documented = section("cli.md", f"holdfast {name}")
        assert re.search(rf"`[^`\n]*{re.escape(option)}\b[^`\n]*`", documented), f"{name} {option}"


def test_what_all_commands_have_and_every_status_is_documented():
    common = text("cli.md").partition("## Looking")[0]
    for option in {*EVERYWHERE, "--version", "--install-completion", "--show-completion"}:
        assert option in common, option
    documented = {int(status) for status in re.findall(r"^\| (\d+) \|", common, re.MULTILINE)}
    assert documented == {int(status) for status in Status}
