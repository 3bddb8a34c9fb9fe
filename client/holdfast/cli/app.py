"""The commands put together: their names, what every one of them does with an error, and which status comes of it."""

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
    """Whoever read standard output has seen enough; under a name of ours, as Typer has an answer of its own to it."""


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
    """The summary of a command in the list of all of them, which Typer would cut."""
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
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Say which version it is.")
    ] = False,
) -> None:
    """Checkpoints on a Holdfast server: look, fetch, save, change, and see what is wrong.

    HOLDFAST_URL says where the server is, HOLDFAST_TOKEN who you are, HOLDFAST_PREFIX what stands before all names.
    """


@app.command(short_help="Deliver the checkpoints that wait on this machine")
@_readable
def sync(
    spool: SpoolFolder = None,
    server: Annotated[
        str | None, typer.Option("--server", metavar="URL", help="Deliver to this one, not to those they wait for.")
    ] = None,
    token: Annotated[
        str | None, typer.Option("--token", help="The token. HOLDFAST_TOKEN is better: others see a command line.")
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option("--token-file", help="A file with the token. Default: HOLDFAST_TOKEN_FILE.")
    ] = None,
    only_list: Annotated[bool, typer.Option("--list", help="Only say what waits, and what was refused.")] = False,
    retry_refused: Annotated[bool, typer.Option("--retry-refused", help="Also try again what was refused.")] = False,
    patience: Annotated[
        float, typer.Option("--patience", metavar="SECONDS", help="How long to try.")
    ] = syncing.PATIENCE_S,
    as_json: AsJson = False,
) -> int:
    """Deliver the checkpoints that wait on this machine. The status is 0 where none waits or is refused any more."""
    status = syncing.sync_all(
        spool=spool,
        server=server,
        token=token,
        token_file=token_file,
        only_list=only_list,
        retry_refused=retry_refused,
        patience_s=checks.seconds("--patience", patience),
        told=not as_json,
    )
    if as_json:
        Output(as_json=True).document(syncing.waiting(syncing.spool_at(spool)))
    return status


_OF_PYDANTIC = re.compile(r"(?:Value error, |Input should be )(?:a valid )?(integer|number)?(, unable to parse .*)?")


def _in_words(error: typer.TyperException) -> str:
    """The fault of an argument, without the words of the library that says so."""
    named = {"integer": "it must be an integer", "number": "it must be a number"}
    text = _OF_PYDANTIC.sub(lambda found: named.get(found[1], ""), error.format_message())
    return f"{text.rstrip('.')}. See '{_command_of(error)} --help'."


def _command_of(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    return context.command_path if context is not None else "holdfast"


def run(arguments: Sequence[str]) -> int:
    """Run a command; its exit status. What fails is one line on standard error."""
    try:
        return int(get_command(app).main(list(arguments), prog_name="holdfast", standalone_mode=False) or Status.DONE)
    except _Unread:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python's last flush has nothing to say, too
        return Status.DONE
    except (HoldfastError, Misuse, ValueError, OSError) as error:
        complain(redacted(str(error)))
        status = status_of(error)
    except (KeyError, TypeError) as error:
        complain(f"an answer of the server makes no sense here: {error!r}")
        status = Status.UNREACHABLE
    except typer.TyperException as error:
        complain(redacted(_in_words(error)))
        status = Status.MISUSE
    is_diff = bool(arguments) and arguments[0] == "diff"
    return Status.MISUSE if is_diff else status  # in diff(1), too, trouble is 2
