"""The command line: ``holdfast-server serve``, ``reindex``, ``openapi``."""

import argparse
import logging
import resource
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic import ValidationError
from pydantic_settings import SettingsError

from app import __version__, auth
from app.api import openapi
from app.checkpoints.rebuilding import rebuild
from app.errors import CatalogUnusable
from app.handover import LendingProtocol
from app.main import create_app, open_root
from app.niceness import EVENT_LOOP, set_niceness
from app.settings import Settings

SWITCH_INTERVAL_S = 0.0005  # how long a thread may keep the event loop waiting for the interpreter
KEEP_ALIVE_S = 75  # longer than clients keep idle connections, so that they never use one that we are closing


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; its exit status."""
    options = vars(_parser().parse_args(arguments))
    command = options.pop("command")
    try:
        settings = Settings(**{name: value for name, value in options.items() if value is not None})
        return int(command(settings))
    except ValidationError as error:
        for fault in error.errors():
            print(f"holdfast-server: HOLDFAST_{str(fault['loc'][0]).upper()}: {fault['msg']}", file=sys.stderr)
    except (CatalogUnusable, SettingsError) as error:
        print(f"holdfast-server: {error}", file=sys.stderr)
    return 2


def serve(settings: Settings) -> int:
    """Serve until told to stop."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    auth.refuse_unprotected(settings.host, settings.token_text)
    _allow_descriptors()
    listener = _listen(settings)
    host, port = listener.getsockname()[:2]
    app = create_app(settings, open_root(settings))
    config = uvicorn.Config(
        app,
        http=LendingProtocol if settings.lend_sockets else "auto",
        access_log=False,
        server_header=False,
        log_config=None,
        timeout_graceful_shutdown=settings.shutdown_timeout_s,
        timeout_keep_alive=KEEP_ALIVE_S,
    )
    shown = f"[{host}]" if ":" in host else host
    print(f"Holdfast {__version__} keeps {settings.root.resolve()} at http://{shown}:{port}", flush=True)
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, lambda *_: None)  # the server takes them first, and gives them again when it has ended well
    set_niceness(EVENT_LOOP)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    _Server(config, app).run(sockets=[listener])
    return 0


def reindex(settings: Settings) -> int:
    """Rebuild the catalog from the files; 1 where something on disk could not be believed."""
    checkpoints = open_root(settings)
    try:
        rebuilt = rebuild(checkpoints.parts)
    finally:
        checkpoints.close()
    for fault in rebuilt.faults:
        print(f"left alone: {fault}", file=sys.stderr)
    print(f"{rebuilt.checkpoints} checkpoints in {rebuilt.directories} directories")
    return 1 if rebuilt.faults else 0


def describe(settings: Settings) -> int:
    """Print the API's description."""
    print(openapi.dump(create_app(settings)), end="")
    return 0


class _Server(uvicorn.Server):
    """Ends event streams when it is told to stop, as they would not end by themselves."""

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._app = app

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if bell := getattr(self._app.state, "bell", None):
            bell.silence()
        super().handle_exit(sig, frame)


def _allow_descriptors() -> None:
    """As many open files as the system lets us: each transfer, and each file that is copied from, needs some."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _listen(settings: Settings) -> socket.socket:
    try:
        return socket.create_server(
            (settings.host, settings.port),
            family=socket.AF_INET6 if ":" in settings.host else socket.AF_INET,
            backlog=2048,
        )
    except OSError as error:
        raise CatalogUnusable(f"cannot listen on {settings.host} port {settings.port}: {error.strerror}") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="holdfast-server", description="A checkpoint server for training jobs.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="command")
    for command, name, flags in (
        (serve, "serve", set(Settings.model_fields) - {"token", "allowed_hosts"}),
        (reindex, "reindex", {"root", "database_url"}),
        (describe, "openapi", set()),
    ):
        found = commands.add_parser(name, help=command.__doc__, description=command.__doc__)
        found.set_defaults(command=command)
        for field, info in Settings.model_fields.items():
            if field in flags:
                default: Any = "in the root" if info.default is None else info.default
                found.add_argument(f"--{field.replace('_', '-')}", help=f"{info.description} [{default}]")
    return parser


if __name__ == "__main__":
    sys.exit(main())
