"""Flags of a command, generated from the settings: name, description and default."""

import inspect
from collections.abc import Callable, Set
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from app.cli.exits import print_to_stderr
from app.settings import RENAMED, Settings

ROOT = frozenset({"root", "database_url"})
ALL = frozenset(Settings.model_fields) - {"admin_token", "quotas"}
"""Without the token, as other users of the machine can see arguments of processes."""

Command = Callable[..., int]


def with_flags(command: Command, fields: Set[str]) -> Callable[..., Callable[[], int]]:
    """Wrap a command for Typer, with these settings as flags beside its own parameters.

    The wrapper only parses; it returns a function that runs the command, so that Typer never handles its errors.
    """

    def read(context: typer.Context, **values: Any) -> Callable[[], int]:
        given = {name: values.pop(name) for name in fields}
        given_settings = {name: value for name, value in given.items() if _is_given(context, name)}
        for former in formerly:
            value = values.pop(former)
            if _is_given(context, former):
                print_to_stderr(f"{_flag_name(former)} is a former name of {_flag_name(RENAMED[former])}; use that one")
                given_settings.setdefault(RENAMED[former], value)
        return lambda: command(Settings(**given_settings), **values)

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


def _is_given(context: typer.Context, name: str) -> bool:
    """Tell if a flag was given. Typer would also read the variable, which the settings read themselves."""
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
    """Format the default for the help."""
    found = Settings.model_fields[name].default
    if found is None or found == ():
        return "in the root" if name == "database_url" else "none"
    return str(found).lower() if isinstance(found, bool) else str(found)


def _metavar(annotation: Any) -> str:
    """Return the placeholder of the value in the help."""
    kinds = {annotation, *get_args(annotation)}
    names = {bool: "true|false", int: "INTEGER", float: "NUMBER", Path: "PATH"}
    return next((name for kind, name in names.items() if kind in kinds), "TEXT")
