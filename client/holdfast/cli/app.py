"""The command-line application: the names of the commands, and the exit status for each error."""

import os
import re
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.main import get_command

from .. import __version__
from .._arguments import checks
from .._runtime.redaction import redacted
from ..errors import HoldfastError
from .commands import diff, doctor, get, ls, mark, mode, prune, put, show, watch
from .commands import sync as syncing
from .options import AsJson, SpoolFolder
from .output import Output, complain
from .statuses import Misuse, Status, status_of

app = typer.Typer(
    name="holdfast",
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
COMMANDS: dict[str, Callable[..., int]] = {
    "ls": ls.ls,
    "show": show.show,
    "tensors": show.tensors,
    "diff": diff.diff,
    "get": get.get,
    "put": put.put,
    "pin": mark.pin,
    "unpin": mark.unpin,
    "tag": mark.tag,
    "rm": mark.rm,
    "restore": mark.restore,
    "prune": prune.prune,
    "mode": mode.mode,
    "watch": watch.watch,
    "doctor": doctor.doctor,
}


class _Unread(Exception):
    """The reader of standard output has closed it. A class of our own, as Typer handles BrokenPipeError itself."""


def _readable(command: Callable[..., int]) -> Callable[..., int]:
    @wraps(command)
    def run(*arguments: Any, **options: Any) -> int:
        try:
            status = command(*arguments, **options)
            sys.stdout.flush()
        except BrokenPipeError as error:
            raise _Unread from error
        return status

    return run


def _first_sentence(command: Callable[..., int]) -> str:
    """Return the summary of a command for the list of commands, which Typer would cut."""
    return (command.__doc__ or "").partition("\n")[0].partition(". ")[0].rstrip(".")


for _name, _command in COMMANDS.items():
    app.command(_name, short_help=_first_sentence(_command))(_readable(_command))


def _say_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def holdfast(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Look at, fetch, save and change checkpoints on a Holdfast server, and diagnose problems.

    HOLDFAST_URL is the URL of the server, HOLDFAST_TOKEN your token, HOLDFAST_PREFIX a prefix of all names.
    """


@app.command(short_help="Deliver the checkpoints that wait on this machine")
@_readable
def sync(
    spool: SpoolFolder = None,
    server: Annotated[
        str | None,
        typer.Option(
            "--server", metavar="URL", help="Deliver to this server instead of the ones that the checkpoints wait for."
        ),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            "--token", metavar="TOKEN", help="The token. Prefer HOLDFAST_TOKEN: other users can see command lines."
        ),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option("--token-file", metavar="FILE", help="File with the token. Default: HOLDFAST_TOKEN_FILE."),
    ] = None,
    only_list: Annotated[bool, typer.Option("--list", help="Only list waiting and refused checkpoints.")] = False,
    retry_refused: Annotated[bool, typer.Option("--retry-refused", help="Also retry refused checkpoints.")] = False,
    patience: Annotated[
        float, typer.Option("--patience", metavar="SECONDS", help="Time for retries.")
    ] = syncing.PATIENCE_S,
    as_json: AsJson = False,
) -> int:
    """Deliver the checkpoints that wait on this machine. The status is 0 if none is left waiting or refused."""
    status = syncing.sync_all(
        spool=spool,
        server=server,
        token=token,
        token_file=token_file,
        only_list=only_list,
        retry_refused=retry_refused,
        patience_s=checks.seconds("--patience", patience),
        is_verbose=not as_json,
    )
    if as_json:
        Output(as_json=True).document(syncing.waiting(syncing.spool_at(spool)))
    return status


_OF_PYDANTIC = re.compile(r"(?:Value error, |Input should be )(?:a valid )?(integer|number)?(, unable to parse .*)?")


def _in_words(error: typer.TyperException) -> str:
    """Return the error about an argument without the wording of the library."""
    named = {"integer": "it must be an integer", "number": "it must be a number"}
    text = _OF_PYDANTIC.sub(lambda found: named.get(found[1], ""), error.format_message())
    return f"{text.rstrip('.')}. See '{_command_of(error)} --help'."


def _command_of(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    return context.command_path if context is not None else "holdfast"


def _command_line() -> Any:
    """Return Typer's command line, whose help names arguments without the types of Python."""
    made: Any = get_command(app)
    for command in made.commands.values():
        for parameter in command.params:
            if parameter.param_type_name == "argument":
                parameter.display_type_rich = lambda ctx: None
    return made


def run(arguments: Sequence[str]) -> int:
    """Run a command and return its exit status. An error is one line on standard error."""
    try:
        return int(_command_line().main(list(arguments), prog_name="holdfast", standalone_mode=False) or Status.DONE)
    except _Unread:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that Python's last flush does not fail, too
        return Status.DONE
    except (HoldfastError, Misuse, ValueError, OSError) as error:
        complain(redacted(str(error)))
        status = status_of(error)
    except (KeyError, TypeError) as error:
        complain(f"unexpected response of the server: {error!r}")
        status = Status.UNREACHABLE
    except typer.TyperException as error:
        complain(redacted(_in_words(error)))
        status = Status.MISUSE
    is_diff = bool(arguments) and arguments[0] == "diff"
    return Status.MISUSE if is_diff else status  # as in diff(1), trouble is 2
