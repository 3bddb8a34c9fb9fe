"""The command line: ``holdfast-server serve``, ``reindex``, ``adopt``, ``fsck``, ``openapi``."""

import argparse
import inspect
import sys
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_settings import SettingsError
from sqlalchemy.exc import DatabaseError

from app import __version__
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
    for command, name, flags in (
        (serve, "serve", set(Settings.model_fields) - {"token", "allowed_hosts"}),
        (reindex, "reindex", {"root", "database_url"}),
        (adopt, "adopt", {"root", "database_url"}),
        (fsck, "fsck", {"root", "database_url"}),
        (describe, "openapi", set()),
    ):
        about = inspect.getdoc(command) or ""
        found = commands.add_parser(name, help=about.partition("\n")[0], description=about)
        found.set_defaults(command=command)
        if command is fsck:
            found.add_argument("--dry-run", action="store_true", help="change nothing; also while a server runs")
        for field, info in Settings.model_fields.items():
            if field in flags:
                default: Any = "in the root" if info.default is None else info.default
                found.add_argument(f"--{field.replace('_', '-')}", help=f"{info.description} [{default}]")
        if command is adopt:
            found.add_argument("folder", metavar="DIR", help="The folder to take in, with all below it.")
            found.add_argument("--as", dest="name", metavar="NAME", help="Where below the root it is copied to.")
            found.add_argument("--dry-run", action="store_true", help="Only say what would be done.")
    return parser


if __name__ == "__main__":
    sys.exit(main())
