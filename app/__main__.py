"""The command line: ``holdfast-server serve``, ``reindex``, ``adopt``, ``fsck``, ``token``, ``openapi``."""

import argparse
import inspect
import sys
from collections.abc import Callable, Sequence, Set

from pydantic import ValidationError
from pydantic_settings import SettingsError
from sqlalchemy.exc import DatabaseError

from app import __version__, token_commands
from app.access import SCOPES
from app.api import openapi
from app.checkpoints.adopting import CannotAdopt
from app.errors import CatalogUnusable, Refusal
from app.main import create_app
from app.maintenance import adopt, fsck, reindex
from app.serving import serve
from app.settings import Settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; its exit status."""
    options = vars(_parser().parse_args(arguments))
    command = options.pop("command")
    own = {name: options.pop(name) for name in set(options) - set(Settings.model_fields)}
    try:
        settings = Settings(**{name: value for name, value in options.items() if value is not None})
        return int(command(settings, **own))
    except ValidationError as error:
        for fault in error.errors():
            print(f"holdfast-server: HOLDFAST_{str(fault['loc'][0]).upper()}: {fault['msg']}", file=sys.stderr)
    except (CatalogUnusable, CannotAdopt, SettingsError, DatabaseError, Refusal, OSError) as error:
        cause = getattr(error.__cause__, "orig", None)  # what the database said
        print(f"holdfast-server: {error}" + (f" ({cause})" if cause else ""), file=sys.stderr)
    return 2


def describe(settings: Settings) -> int:
    """Print the API's description."""
    print(openapi.dump(create_app(settings)), end="")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="holdfast-server", description="A checkpoint server for training jobs.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="command")
    _add(commands, serve, "serve", set(Settings.model_fields) - {"token", "quotas"})
    _add(commands, reindex, "reindex")
    taking_in = _add(commands, adopt, "adopt")
    taking_in.add_argument("folder", metavar="DIR", help="The folder to take in, with all below it.")
    taking_in.add_argument("--as", dest="name", metavar="NAME", help="Where below the root it is copied to.")
    taking_in.add_argument("--dry-run", action="store_true", help="Only say what would be done.")
    checking = _add(commands, fsck, "fsck")
    checking.add_argument("--dry-run", action="store_true", help="change nothing; also while a server runs")
    _add_tokens(commands.add_parser("token", help="Make, list and revoke tokens, also while the server runs."))
    _add(commands, describe, "openapi", set())
    return parser


def _add_tokens(token: argparse.ArgumentParser) -> None:
    commands = token.add_subparsers(required=True, metavar="command")
    making = _add(commands, token_commands.create, "create")
    making.add_argument(
        "--scope", action="append", required=True, choices=SCOPES, help="What it may do; may be repeated."
    )
    making.add_argument("--prefix", default="", help="Only directories equal to this or below it [all]")
    making.add_argument("--expires", default="never", help="After which time: 30m, 12h, 90d [never]")
    making.add_argument("--note", default="", help="What it is for, to be seen in the list.")
    listing = _add(commands, token_commands.show, "list")
    listing.add_argument("--json", dest="as_json", action="store_true", help="as JSON")
    _add(commands, token_commands.revoke, "revoke").add_argument("ids", metavar="ID", nargs="+")
    rotating = _add(commands, token_commands.rotate, "rotate-link-key")
    rotating.add_argument("--drop", action="store_true", help="Links of earlier keys do not count any more.")


def _add(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    command: Callable[..., int],
    name: str,
    flags: Set[str] = frozenset({"root", "database_url"}),
) -> argparse.ArgumentParser:
    """A command with a flag for each of those settings."""
    about = inspect.getdoc(command) or ""
    found = commands.add_parser(name, help=about.partition("\n")[0], description=about)
    found.set_defaults(command=command)
    for field, info in Settings.model_fields.items():
        if field in flags:
            found.add_argument(f"--{field.replace('_', '-')}", help=f"{info.description} [{_default(field)}]")
    return found


def _default(field: str) -> object:
    found = Settings.model_fields[field].default
    if found is None or found == ():
        return "in the root" if field == "database_url" else "none"
    return found


if __name__ == "__main__":
    sys.exit(main())
