"""The usage, arguments and options of each command, from the command lines themselves."""

from functools import partial
from typing import Any

from typer.main import get_command

from app.cli import commands as server
from holdfast.cli.app import app as client
from scripts.reference.markdown import code, from_rst, sentence
from scripts.reference.markdown import table as a_table

EVERYWHERE = {"--help", "-h", "--install-completion", "--show-completion", "--version"}
OF_THE_CLIENT = EVERYWHERE | {"--server", "--json"}


def of_the_client() -> dict[str, Any]:
    """Return the parts of the page about ``holdfast``."""
    group: Any = get_command(client)
    return {
        f"holdfast {name}": partial(_part, f"holdfast {name}", OF_THE_CLIENT, found)
        for name, found in group.commands.items()
    }


def of_the_server() -> dict[str, Any]:
    """Return the parts of the page about ``holdfast-server``; the flags of ``serve`` are the settings."""
    found: dict[str, Any] = {}
    for name, command in flat(server.command_line(), "holdfast-server"):
        skipped = EVERYWHERE | ({"--root", "--database-url"} if name != "holdfast-server serve" else set())
        found[name] = partial(_part, name, skipped, command)
    return found


def flat(group: Any, path: str) -> list[tuple[str, Any]]:
    """Return every command of a command line, with its whole name."""
    return [
        pair
        for name, command in group.commands.items()
        for pair in (flat(command, f"{path} {name}") if hasattr(command, "commands") else [(f"{path} {name}", command)])
    ]


def _part(path: str, skipped: set[str], command: Any, _: str) -> str:
    usage = " ".join(
        [path, *(_piece(parameter) for parameter in command.params if not _options(parameter)), "[OPTIONS]"]
    )
    paragraphs = [sentence(from_rst(text)) for text in (command.help or "").split("\n\n")]
    rows = [row for parameter in command.params if (row := _row(parameter, skipped))]
    if path == "holdfast-server serve":
        rows = []
    listed = a_table(("argument or option", "description"), rows) if rows else ""
    return "\n\n".join(filter(None, [f"```\n{usage}\n```", *paragraphs, listed]))


def _row(parameter: Any, skipped: set[str]) -> tuple[str, str] | None:
    options = _options(parameter)
    if skipped & set(options) or parameter.hidden:
        return None
    if not options:
        return code(_metavar(parameter)), sentence(from_rst(parameter.help or ""))
    takes = "" if parameter.is_flag else f" {_metavar(parameter)}"
    return ", ".join(code(f"{option}{takes}") for option in options), _described(parameter)


def _described(parameter: Any) -> str:
    """Return the help of an option, with its default and whether it can be repeated, unless the help says so."""
    text = sentence(from_rst(parameter.help or ""))
    default = parameter.default
    if parameter.multiple and "epeat" not in text:
        text += " Repeatable."
    if isinstance(default, str | int | float) and default not in ("", False) and "efault" not in text:
        text += f" Default: {code(str(default).removesuffix('.0'))}."
    return text


def _options(parameter: Any) -> list[str]:
    return [option for option in parameter.opts if option.startswith("-")]


def _metavar(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name.upper()).removesuffix("...")


def _piece(parameter: Any) -> str:
    several = "..." if parameter.nargs == -1 else ""
    name = f"{_metavar(parameter)}{several}"
    return name if parameter.required else f"[{name}]"
