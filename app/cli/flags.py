"""How settings become flags of a command: named, described and defaulted by the settings alone."""

import inspect
from collections.abc import Callable, Set
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from app.cli.exits import tell
from app.settings import RENAMED, Settings

ROOT = frozenset({"root", "database_url"})
ALL = frozenset(Settings.model_fields) - {"admin_token", "quotas"}
"""Not the token: arguments of processes can be seen by other users of a machine."""

Command = Callable[..., int]


def with_flags(command: Command, fields: Set[str]) -> Callable[..., Callable[[], int]]:
    """A command for Typer that takes those settings as flags, beside what it takes itself after its settings.

    It only reads its flags, and gives what is to be run then: errors of commands are none of Typer's.
    """

    def read(context: typer.Context, **values: Any) -> Callable[[], int]:
        given = {name: values.pop(name) for name in fields}
        told = {name: value for name, value in given.items() if _is_told(context, name)}
        for former in formerly:
            value = values.pop(former)
            if _is_told(context, former):
                tell(f"{_flag_name(former)} is a former name of {_flag_name(RENAMED[former])}; use that one")
                told.setdefault(RENAMED[former], value)
        return lambda: command(Settings(**told), **values)

    formerly = [former for former, name in RENAMED.items() if name in fields]
    own = list(inspect.signature(command).parameters.values())[1:]
    parameters = [
        inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context),
        *(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own),
        *(_flag(name) for name in Settings.model_fields if name in fields),
        *(_former_flag(former) for former in formerly),
    ]
    read.__doc__ = command.__doc__
    read.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    read.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return read


def _is_told(context: typer.Context, name: str) -> bool:
    """Whether a flag was given: Typer would also read the variable, which the settings do by themselves."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _flag(name: str) -> inspect.Parameter:
    info = Settings.model_fields[name]
    option = typer.Option(
        _flag_name(name),
        envvar=f"HOLDFAST_{name.upper()}",
        help=info.description,
        metavar=_metavar(info.annotation),
        show_default=_shown(name),
        rich_help_panel="Settings",
    )
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[str | None, option]
    )


def _former_flag(former: str) -> inspect.Parameter:
    option = typer.Option(_flag_name(former), hidden=True)
    return inspect.Parameter(
        former, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[str | None, option]
    )


def _flag_name(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _shown(name: str) -> str:
    """The default in words."""
    found = Settings.model_fields[name].default
    if found is None or found == ():
        return "in the root" if name == "database_url" else "none"
    return str(found).lower() if isinstance(found, bool) else str(found)


def _metavar(annotation: Any) -> str:
    """What stands for the value in the help."""
    kinds = {annotation, *get_args(annotation)}
    names = {bool: "true|false", int: "INTEGER", float: "NUMBER", Path: "PATH"}
    return next((said for kind, said in names.items() if kind in kinds), "TEXT")
