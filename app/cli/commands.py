"""The commands with their flags and help. Each imports its implementation only when it runs."""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app import __version__
from app.cli import terminal
from app.cli.flags import ALL, ROOT, with_flags
from app.core.access import SCOPES
from app.settings import Settings

if TYPE_CHECKING:
    from app.service.maintenance.adopt_facts import Ranking

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Change nothing; only report what would be done.")]


def read(words: list[str]) -> Callable[[], int]:
    """Parse a command line; return a function that runs it and returns the exit status."""
    found = command_line().main(args=words or ["--help"], prog_name="holdfast-server", standalone_mode=False)
    if callable(found):
        return found  # type: ignore[no-any-return]
    return lambda: int(found or 0) if words else 2


def command_line() -> Any:
    """Build all commands. Help has colours and boxes on terminals only."""
    look: Any = {
        "rich_markup_mode": "rich" if terminal.is_terminal(sys.stdout) else None,
        "context_settings": {"help_option_names": ["-h", "--help"], "max_content_width": 120},
    }
    commands = typer.Typer(name="holdfast-server", help="A checkpoint server for training jobs.", **look)
    commands.callback()(_options)
    commands.command("serve")(with_flags(_serve, ALL))
    commands.command("reindex")(with_flags(_reindex, ROOT))
    commands.command("adopt")(with_flags(_adopt, ROOT))
    commands.command("fsck")(with_flags(_fsck, ROOT))
    commands.command("compact")(with_flags(_compact, ROOT))
    tokens = typer.Typer(name="token", help="Create, list and revoke tokens, also while the server runs.", **look)
    tokens.command("create")(with_flags(_create, ROOT))
    tokens.command("list")(with_flags(_list, ROOT))
    tokens.command("revoke")(with_flags(_revoke, ROOT))
    tokens.command("rotate-link-key")(with_flags(_rotate, ROOT))
    commands.add_typer(tokens)
    commands.command("openapi")(with_flags(_openapi, frozenset()))
    return typer.main.get_command(commands)


def _version(is_given: bool) -> None:
    if is_given:
        print(__version__)
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """A checkpoint server for training jobs."""


def _serve(settings: Settings) -> int:
    """Serve until SIGINT or SIGTERM."""
    from app.cli.serve import serve

    return serve(settings)


def _reindex(settings: Settings, *, as_json: Json = False) -> int:
    """Rebuild the catalog from the files, while no server runs.

    The status is 1 if some record on disk is corrupt, or a checkpoint of the old catalog is lost.
    """
    from app.cli.root_commands import reindex

    return reindex(settings, as_json=as_json)


def _adopt(
    settings: Settings,
    *,
    folder: Annotated[str, typer.Argument(metavar="DIR", help="The folder to adopt, with everything below it.")],
    name: Annotated[
        str | None, typer.Option("--as", metavar="NAME", help="The directory of the server to copy it to.")
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="The value that ranks the checkpoints. Default: the one that all of a directory tell."
        ),
    ] = None,
    mode: Annotated[
        str | None, typer.Option(metavar="min|max", help="The mode of --metric. Default: by the words of its name.")
    ] = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> int:
    """Adopt checkpoints that other tools wrote, while no server runs.

    The status is 3 if something that looks like a part of a checkpoint was left alone, or nothing was found.
    """
    from app.cli.root_commands import adopt

    return adopt(settings, folder, name, dry_run, ranking=_ranking(metric, mode), as_json=as_json)


def _ranking(metric: str | None, mode: str | None) -> "Ranking | None":
    from app.formats.foreign_names import direction
    from app.service.maintenance.adopt_facts import Ranking

    if metric is None:
        if mode is not None:
            raise typer.BadParameter("--mode is that of --metric, which is not given")
        return None
    match mode or direction(metric):
        case "min" | "max" as known:
            return Ranking(metric, known)
        case None:
            raise typer.BadParameter(f"it is not known if a larger {metric!r} is better: give --mode min or --mode max")
    raise typer.BadParameter(f"--mode is {mode!r}: it must be min or max")


def _fsck(
    settings: Settings,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing; works while a server runs.")] = False,
    as_json: Json = False,
) -> int:
    """Check files, manifests and catalog, and repair what can be repaired safely.

    Reads every byte back. The status is 0 if there is no fault, 1 if all faults were repaired, and 4 if some remain.
    """
    from app.cli.root_commands import fsck

    return fsck(settings, dry_run, as_json=as_json)


def _compact(settings: Settings, *, as_json: Json = False) -> int:
    """Give the unused space of the catalog back to the disk, while no server runs.

    Needs free space of about twice the size of what the catalog holds. Afterwards a running server gives space back by
    itself, as it does with catalogs that this version made.
    """
    from app.cli.root_commands import compact

    return compact(settings, as_json=as_json)


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
            help="A permission of the token; may be repeated.",
            callback=_scopes,
            autocompletion=lambda: list(SCOPES),
        ),
    ],
    prefix: Annotated[
        str,
        typer.Option(help="Restrict the token to this directory and those below it.", show_default="all directories"),
    ] = "",
    expires: Annotated[str, typer.Option(metavar="TIME", help="The lifetime of the token: 30m, 12h, 90d.")] = "never",
    note: Annotated[str, typer.Option(help="A note for the list of tokens.")] = "",
    as_json: Json = False,
) -> int:
    """Create a token and print it. The server keeps only its hash, so this is the only time it is shown."""
    from app.cli.token_commands import create

    return create(settings, scope, prefix, expires, note, as_json=as_json)


def _list(settings: Settings, *, as_json: Json = False) -> int:
    """List all tokens, including expired and revoked ones."""
    from app.cli.token_commands import show

    return show(settings, as_json)


def _revoke(
    settings: Settings,
    *,
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Ids from the list of tokens.")],
    as_json: Json = False,
) -> int:
    """Revoke tokens by id, immediately, with their sessions and links. The status is 1 if an id is unknown."""
    from app.cli.token_commands import revoke

    return revoke(settings, ids, as_json=as_json)


def _rotate(
    settings: Settings,
    *,
    drop: Annotated[bool, typer.Option("--drop", help="Invalidate links that earlier keys signed.")] = False,
) -> int:
    """Sign new links with a new key. Earlier links stay valid until they expire, unless --drop invalidates them."""
    from app.cli.token_commands import rotate

    return rotate(settings, drop)


def _openapi(settings: Settings) -> int:
    """Print the OpenAPI description of the HTTP API."""
    from app.api import openapi
    from app.main import create_app

    print(openapi.dump(create_app(settings)), end="")
    return 0
