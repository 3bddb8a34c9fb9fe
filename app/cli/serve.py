"""The command `serve`: listen, refuse to be reachable without a token, and stop gracefully."""

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
from app.bootstrap import build_authenticator, open_root, require_root, utc_now
from app.cli import banner, terminal
from app.core.errors import AddressUnavailable, RootMissing
from app.http.protocol import BoundedProtocol
from app.http.sockets.handover import SocketHandoverProtocol
from app.http.timeouts import ConnectionLimits
from app.main import create_app
from app.runtime import logs
from app.runtime.thread_priority import EVENT_LOOP, set_niceness
from app.service import Service
from app.settings import OF_CLIENTS, Settings, misspelt, renamed

logger = logging.getLogger("holdfast")

SWITCH_INTERVAL_S = 0.0005  # the longest that a thread may keep the event loop waiting for the GIL
LAST_WORDS_S = 1  # for requests that outlast the limit of a stopping server
LATEST_TICK_S = 0.2  # ticks come every 0.1 s
CHECK_S = 0.0005  # the time between two checks of timeouts, for each connection: every 0.5 s if there are a thousand
KEEP_ALIVE_S = 75  # longer than clients keep idle connections, so that they never use one that closes


def serve(settings: Settings, *, clock: Callable[[], datetime] = utc_now) -> int:
    """Serve until SIGINT or SIGTERM; return the exit status."""
    logs.configure()
    logs.hide(settings.admin_token_text)
    logging.getLogger("uvicorn.error").addFilter(_is_not_cancelled)
    logging.getLogger("alembic").setLevel(logging.WARNING)  # the catalog logs its migrations itself
    _warn_about_variables()
    refuse_weak(settings.admin_token_text)
    _refuse_unprotected_root(settings)
    _raise_descriptor_limit()
    listener = _listen(settings)
    host, port = listener.getsockname()[:2]
    service, is_open = _open_protected(settings, clock)
    app = create_app(settings, service)
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
    if terminal.is_terminal(sys.stdout):
        for label, text in banner.more(host, port, needs_token=not is_open, token_file=settings.admin_token_file):
            terminal.say(("  " + label.ljust(banner.WIDTH), "bold"), text)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)  # uvicorn raises the signal again after a clean stop
    set_niceness(EVENT_LOOP)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    _Server(config, app, settings.shutdown_timeout_s).run(sockets=[listener])
    return 0


def _warn_about_variables() -> None:
    """Warn about variables that this server ignores or reads under a former name.

    Earlier servers took their admin token from the variables of clients.
    """
    if found := [name for name in OF_CLIENTS if os.environ.get(name)]:
        logger.warning(
            "%s: a setting of clients, which this server ignores; it reads its admin token from "
            "HOLDFAST_ADMIN_TOKEN or HOLDFAST_ADMIN_TOKEN_FILE",
            " and ".join(found),
        )
    for former, name in renamed(os.environ).items():
        logger.warning("%s is a former name of %s, and the next version ignores it", former, name)
    for name, meant in misspelt(os.environ).items():
        logger.warning("%s is not a setting and is ignored; did you mean %s?", name, meant)


def _refuse_unprotected_root(settings: Settings) -> None:
    """Refuse before a root is created: a new root has no tokens, so without a configured one the server is open."""
    if settings.admin_token_text is None and settings.admin_token_file is None:
        try:
            require_root(settings)
        except RootMissing:
            refuse_unprotected(settings.host)


def _open_protected(settings: Settings, clock: Callable[[], datetime]) -> tuple[Service, bool]:
    """Open the root, and refuse if other machines could reach it without a token.

    Also returns whether requests need no token.
    """
    service = open_root(settings, clock=clock)
    try:
        if is_open := build_authenticator(settings, service).is_open:
            refuse_unprotected(settings.host)
    except BaseException:
        service.close()
        raise
    return service, is_open


def _protocol(settings: Settings) -> Any:
    """Return the factory of each connection's protocol."""
    limits = ConnectionLimits(
        header_bytes=settings.max_header_bytes,
        head_timeout_s=settings.head_timeout_s,
        idle_timeout_s=settings.idle_timeout_s,
        body_grace_s=settings.body_grace_s,
        min_bytes_per_s=settings.min_bytes_per_s,
    )
    return partial(SocketHandoverProtocol if settings.socket_handover else BoundedProtocol, limits=limits)


class _Server(uvicorn.Server):
    """A server that stops gracefully.

    At the first signal it reports not ready, ends event streams, and refuses new work; running transfers may finish
    within a time limit. At the second signal it stops at once.
    """

    def __init__(self, config: uvicorn.Config, app: FastAPI, limit_s: float) -> None:
        super().__init__(config)
        self._app = app
        app.state.requests = self.server_state.tasks
        self._limit_s = limit_s
        self._signals: list[int] = []
        self._signalled_at: float | None = None
        self._checked_at = time.monotonic()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Record the signal for the next tick. The interrupted code may hold a lock, so nothing else is safe here."""
        if self.should_exit:
            super().handle_exit(sig, frame)
        else:
            self._signals.append(sig)

    async def on_tick(self, counter: int) -> bool:
        if self._signals and not self.should_exit and self._is_time_to_stop():
            self.config.timeout_graceful_shutdown = LAST_WORDS_S
            super().handle_exit(self._signals[-1], None)
        self._check_connections()
        return await super().on_tick(counter)

    def _check_connections(self) -> None:
        """Check the timeouts of all connections, less often if they are many.

        Of a late tick little counts, as the server was busy or suspended.
        """
        connections = list(self.server_state.connections)
        every_s = len(connections) * CHECK_S
        if time.monotonic() < self._checked_at + every_s:
            return
        before, self._checked_at = self._checked_at, time.monotonic()
        elapsed_s = min(self._checked_at - before, max(LATEST_TICK_S, 2 * every_s))
        for connection in connections:
            if isinstance(connection, BoundedProtocol):
                connection.check_timeouts(elapsed_s)

    def _is_time_to_stop(self) -> bool:
        if self._signalled_at is None:
            self._signalled_at = time.monotonic()
            self._app.state.service.context.notifier.close()
        is_busy = bool(self.server_state.tasks) or self._app.state.service.transfers.is_moving()
        return len(self._signals) > 1 or not is_busy or time.monotonic() >= self._signalled_at + self._limit_s


def _is_not_cancelled(record: logging.LogRecord) -> bool:
    """Drop tracebacks of requests that a stopping server cancelled; uvicorn logs their number."""
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))


def _raise_descriptor_limit() -> None:
    """Raise the limit of open files to its maximum: each transfer and each planned copy needs some."""
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
