"""The commands and their flags, as people see them. What they do is only imported when they are run."""

import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from app import __version__
from app.cli import terminal
from app.cli.flags import ALL, ROOT, with_flags
from app.core.access import SCOPES
from app.settings import Settings

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of words.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Change nothing, only say what would be done.")]


def read(words: list[str]) -> Callable[[], int]:
    """What the words of a command line ask for; to be called, it gives the exit status."""
    asked = command_line().main(args=words or ["--help"], prog_name="holdfast-server", standalone_mode=False)
    if callable(asked):
        return asked  # type: ignore[no-any-return]
    return lambda: int(asked or 0) if words else 2


def command_line() -> Any:
    """All commands. Colours and boxes are for terminals."""
    look: Any = {
        "rich_markup_mode": "rich" if terminal.is_one(sys.stdout) else None,
        "context_settings": {"help_option_names": ["-h", "--help"], "max_content_width": 120},
    }
    commands = typer.Typer(name="holdfast-server", help="A checkpoint server for training jobs.", **look)
    commands.callback()(_options)
    commands.command("serve")(with_flags(_serve, ALL))
    commands.command("reindex")(with_flags(_reindex, ROOT))
    commands.command("adopt")(with_flags(_adopt, ROOT))
    commands.command("fsck")(with_flags(_fsck, ROOT))
    tokens = typer.Typer(name="token", help="Make, list and revoke tokens, also while the server runs.", **look)
    tokens.command("create")(with_flags(_create, ROOT))
    tokens.command("list")(with_flags(_list, ROOT))
    tokens.command("revoke")(with_flags(_revoke, ROOT))
    tokens.command("rotate-link-key")(with_flags(_rotate, ROOT))
    commands.add_typer(tokens)
    commands.command("openapi")(with_flags(_openapi, frozenset()))
    return typer.main.get_command(commands)


def _version(is_asked: bool) -> None:
    if is_asked:
        print(__version__)
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """A checkpoint server for training jobs."""


def _serve(settings: Settings) -> int:
    """Serve until told to stop."""
    from app.cli.serve import serve

    return serve(settings)


def _reindex(settings: Settings, *, as_json: Json = False) -> int:
    """Rebuild the catalog from the files, while no server runs.

    The status is 1 where something on the disk could not be believed, or a checkpoint of the old catalog is lost.
    """
    from app.cli.root_commands import reindex

    return reindex(settings, as_json=as_json)


def _adopt(
    settings: Settings,
    *,
    folder: Annotated[str, typer.Argument(metavar="DIR", help="The folder to take in, with all below it.")],
    name: Annotated[
        str | None, typer.Option("--as", metavar="NAME", help="Where below the root it is copied to.")
    ] = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> int:
    """Take in checkpoints that other tools wrote, while no server runs.

    The status is 3 where something that looks like a part of one was left alone, or nothing was found.
    """
    from app.cli.root_commands import adopt

    return adopt(settings, folder, name, dry_run, as_json=as_json)


def _fsck(
    settings: Settings,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing; also while a server runs.")] = False,
    as_json: Json = False,
) -> int:
    """Check files, manifests and catalog, and repair what is certain.

    Every byte is read back. The status is 0 where nothing is wrong, 1 where everything could be repaired, and 4 where
    faults remain.
    """
    from app.cli.root_commands import fsck

    return fsck(settings, dry_run, as_json=as_json)


def _scopes(given: list[str]) -> list[str]:
    for scope in given:
        if scope not in SCOPES:
            raise typer.BadParameter(f"invalid choice: {scope!r} (choose from {', '.join(SCOPES)})")
    return given


def _create(
    settings: Settings,
    *,
    scope: Annotated[
        list[str],
        typer.Option(
            metavar="|".join(SCOPES),
            help="What it may do; may be repeated.",
            callback=_scopes,
            autocompletion=lambda: list(SCOPES),
        ),
    ],
    prefix: Annotated[
        str, typer.Option(help="Only directories equal to this or below it.", show_default="all directories")
    ] = "",
    expires: Annotated[str, typer.Option(metavar="TIME", help="After which time: 30m, 12h, 90d.")] = "never",
    note: Annotated[str, typer.Option(help="What it is for, to be seen in the list.")] = "",
    as_json: Json = False,
) -> int:
    """Make a token, print it, and keep only its hash: it is shown this once."""
    from app.cli.token_commands import create

    return create(settings, scope, prefix, expires, note, as_json=as_json)


def _list(settings: Settings, *, as_json: Json = False) -> int:
    """List the tokens, also those that have expired or were revoked."""
    from app.cli.token_commands import show

    return show(settings, as_json)


def _revoke(
    settings: Settings,
    *,
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="As the list has them.")],
    as_json: Json = False,
) -> int:
    """Revoke tokens by id, at once, with the sessions and links that they made; 1 where there is no such token."""
    from app.cli.token_commands import revoke

    return revoke(settings, ids, as_json=as_json)


def _rotate(
    settings: Settings,
    *,
    drop: Annotated[bool, typer.Option("--drop", help="Links of earlier keys do not count any more.")] = False,
) -> int:
    """Sign links with a new key from now on. Earlier links stay good for their time, unless their keys are dropped."""
    from app.cli.token_commands import rotate

    return rotate(settings, drop)


def _openapi(settings: Settings) -> int:
    """Print the API's description."""
    from app.api import openapi
    from app.main import create_app

    print(openapi.dump(create_app(settings)), end="")
    return 0
