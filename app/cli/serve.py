"""Serve: listen, protect, log, and stop when told to."""

import asyncio
import logging
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from functools import partial
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI

from app.auth.exposure import refuse_unprotected, refuse_weak
from app.cli import banner, terminal
from app.core.errors import AddressUnavailable, RootMissing
from app.http.protocol import BoundedProtocol
from app.http.socket_handover import SocketHandoverProtocol
from app.http.timeouts import Bounds
from app.main import authenticator_of, create_app, open_root, refuse_no_root, utc_now
from app.runtime import logs
from app.runtime.thread_priority import EVENT_LOOP, set_niceness
from app.service import Checkpoints
from app.settings import OF_CLIENTS, Settings, misspelt, renamed

logger = logging.getLogger("holdfast")

SWITCH_INTERVAL_S = 0.0005  # how long a thread may keep the event loop waiting for the interpreter
LAST_WORDS_S = 1  # what a stopping server gives those who have not ended within its limit
LATEST_TICK_S = 0.2  # ticks come every 0.1 s
KEEP_ALIVE_S = 75  # longer than clients keep idle connections, so that they never use one that we are closing


def serve(settings: Settings, *, clock: Callable[[], datetime] = utc_now) -> int:
    """Serve until told to stop."""
    logs.configure()
    logs.hide(settings.admin_token_text)
    logging.getLogger("uvicorn.error").addFilter(_is_no_farewell)
    logging.getLogger("alembic").setLevel(logging.WARNING)  # which steps are taken, the catalog says itself
    _name_settings_of_clients()
    refuse_weak(settings.admin_token_text)
    _refuse_unprotected_root(settings)
    _allow_descriptors()
    listener = _listen(settings)
    host, port = listener.getsockname()[:2]
    checkpoints, is_open = _open_protected(settings, clock)
    app = create_app(settings, checkpoints)
    config = uvicorn.Config(
        app,
        http=_protocol(settings),
        ws="none",
        access_log=False,
        server_header=False,
        log_config=None,
        timeout_keep_alive=KEEP_ALIVE_S,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
    )
    print(banner.first_line(settings.root.resolve(), host, port), flush=True)
    if terminal.is_one(sys.stdout):
        for label, text in banner.more(host, port, needs_token=not is_open, token_file=settings.admin_token_file):
            terminal.say(("  " + label.ljust(banner.WIDTH), "bold"), text)
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, lambda *_: None)  # the server takes them first, and gives them again when it has ended well
    set_niceness(EVENT_LOOP)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    _Server(config, app, settings.shutdown_timeout_s).run(sockets=[listener])
    return 0


def _name_settings_of_clients() -> None:
    """Say which variables of clients stand in the environment: earlier servers took their admin token from them."""
    if found := [name for name in OF_CLIENTS if os.environ.get(name)]:
        logger.warning(
            "%s: a setting of clients, which this server ignores; its own key is HOLDFAST_ADMIN_TOKEN or "
            "HOLDFAST_ADMIN_TOKEN_FILE",
            " and ".join(found),
        )
    for former, name in renamed(os.environ).items():
        logger.warning("%s is a former name of %s, and the next version ignores it", former, name)
    for name, meant in misspelt(os.environ).items():
        logger.warning("%s: no setting of this server, which ignores it; did you mean %s?", name, meant)


def _refuse_unprotected_root(settings: Settings) -> None:
    """Where no token is set, there are none either in a root that nobody has made yet, and it need not be made."""
    if settings.admin_token_text is None and settings.admin_token_file is None:
        try:
            refuse_no_root(settings)
        except RootMissing:
            refuse_unprotected(settings.host)


def _open_protected(settings: Settings, clock: Callable[[], datetime]) -> tuple[Checkpoints, bool]:
    """Take the root, unless what is in it could then be reached from elsewhere without a token.

    Also says whether everybody may everything.
    """
    checkpoints = open_root(settings, clock=clock)
    try:
        if is_open := authenticator_of(settings, checkpoints).is_open:
            refuse_unprotected(settings.host)
    except BaseException:
        checkpoints.close()
        raise
    return checkpoints, is_open


def _protocol(settings: Settings) -> Any:
    """What makes the protocol of each connection."""
    bounds = Bounds(
        header_bytes=settings.max_header_bytes,
        head_timeout_s=settings.head_timeout_s,
        idle_timeout_s=settings.idle_timeout_s,
        body_grace_s=settings.body_grace_s,
        min_bytes_per_s=settings.min_bytes_per_s,
    )
    return partial(SocketHandoverProtocol if settings.socket_handover else BoundedProtocol, bounds=bounds)


class _Server(uvicorn.Server):
    """Told to stop, it is not ready any more and begins nothing new; what has begun may end, up to a limit.

    Told a second time, it stops at once, whatever is under way. Event streams end with the first word, as they would
    not by themselves.
    """

    def __init__(self, config: uvicorn.Config, app: FastAPI, limit_s: float) -> None:
        super().__init__(config)
        self._app = app
        self._limit_s = limit_s
        self._signs: list[int] = []
        self._told_at: float | None = None
        self._looked_at = time.monotonic()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Only notes it, for the next tick: whatever was interrupted may hold a lock."""
        if self.should_exit:
            super().handle_exit(sig, frame)
        else:
            self._signs.append(sig)

    async def on_tick(self, counter: int) -> bool:
        if self._signs and not self.should_exit and self._is_time_to_end():
            self.config.timeout_graceful_shutdown = LAST_WORDS_S
            super().handle_exit(self._signs[-1], None)
        self._look_at_connections()
        return await super().on_tick(counter)

    def _look_at_connections(self) -> None:
        """Clients are told apart from a server that was busy or suspended: of a late tick, little counts."""
        before, self._looked_at = self._looked_at, time.monotonic()
        for connection in list(self.server_state.connections):
            if isinstance(connection, BoundedProtocol):
                connection.check_timeouts(min(self._looked_at - before, LATEST_TICK_S))

    def _is_time_to_end(self) -> bool:
        if self._told_at is None:
            self._told_at = time.monotonic()
            self._app.state.checkpoints.context.notifier.close()
        is_busy = bool(self.server_state.tasks) or self._app.state.checkpoints.uploads.is_moving()
        return len(self._signs) > 1 or not is_busy or time.monotonic() >= self._told_at + self._limit_s


def _is_no_farewell(record: logging.LogRecord) -> bool:
    """Leaves out the traces of requests that a stopping server has cut off: it says how many there were."""
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))


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
        raise AddressUnavailable(f"cannot listen on {settings.host} port {settings.port}: {error.strerror}") from error
