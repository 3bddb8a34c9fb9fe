"""Put the server together: the one place where settings become values and parts meet."""

import asyncio
import gc
import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TypedDict

from fastapi import APIRouter, Depends, FastAPI
from fastapi_offline import FastAPIOffline
from prometheus_client import CollectorRegistry

from app import __version__
from app.api import openapi
from app.api.dependencies import only_known_preconditions, only_known_queries
from app.api.routes import audit, content, diff, directories, events, links, metrics, operations, prune, uploads
from app.api.routes import checkpoints as checkpoint_routes
from app.auth.authenticator import Authenticator
from app.auth.exposure import refuse_weak
from app.auth.links import Links
from app.auth.sessions import Sessions
from app.auth.token_issuer import TokenIssuer
from app.catalog import Catalog
from app.core.errors import Refusal, RootMissing, UnusableToken
from app.dashboard import install
from app.http import problems
from app.http.authentication import Authentication
from app.http.content_digest import ContentDigests
from app.http.origin_checks import OriginChecks
from app.http.request_id import RequestContext
from app.http.root_path import RootPath
from app.runtime import logs
from app.runtime.actor import Actor
from app.runtime.loop_lag import LoopProbe
from app.service import Checkpoints, Context, Rules
from app.service.maintenance import janitor
from app.service.maintenance.catalog_agreement import root_id, sign, why_anew
from app.service.maintenance.reindex import Rebuilt, rebuild
from app.service.maintenance.scrub import Scrubber
from app.settings import Settings
from app.storage.local.store import LocalStorage

logger = logging.getLogger("holdfast")


class State(TypedDict):
    """What requests find in ``request.state``."""

    checkpoints: Checkpoints
    metrics: Callable[[str], CollectorRegistry]
    authenticator: Authenticator
    sessions: Sessions
    links: Links


def utc_now() -> datetime:
    """The time by this machine's clock."""
    return datetime.now(UTC)


def create_app(settings: Settings, opened: Checkpoints | None = None) -> FastAPI:
    """The server as an ASGI application. It takes the root when it starts, unless that was opened before.

    Raises
    ------
    UnusableToken
        The token that is set could be guessed.
    """
    refuse_weak(settings.admin_token_text)
    app: FastAPI = FastAPIOffline(
        title="Holdfast",
        version=__version__,
        summary="A checkpoint server for training jobs.",
        description=openapi.DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        lifespan=lambda app: _running(app, settings, opened),
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.root = str(settings.root.resolve())
    app.state.server_id = None
    problems.install(app)
    v1 = APIRouter(
        prefix="/v1",
        dependencies=[Depends(only_known_queries), Depends(only_known_preconditions)],
        max_body_size=settings.max_json_bytes,
    )
    for routes in (directories, content, checkpoint_routes, diff, uploads, links, prune, events, audit):
        v1.include_router(routes.router)
    v1.include_router(operations.api)
    app.include_router(v1)
    app.include_router(operations.outside)
    install.install(app)
    openapi.install(app)
    # The last is around all others: refusals, too, have their request's id and their digest.
    app.add_middleware(Authentication, max_requests_per_token=settings.max_requests_per_token)
    app.add_middleware(OriginChecks, allowed_hosts=settings.allowed_hosts, answer=install.refusal_response)
    app.add_middleware(RequestContext, log_access=settings.access_log)
    app.add_middleware(ContentDigests)
    app.add_middleware(RootPath, root_path=settings.root_path)
    return app


@asynccontextmanager
async def _running(app: FastAPI, settings: Settings, opened: Checkpoints | None) -> AsyncIterator[State]:
    """What runs beside the requests, from the start to the end."""
    checkpoints = opened or open_root(settings)
    app.state.checkpoints = checkpoints
    app.state.server_id = root_id(checkpoints.context)
    app.openapi()  # the framework makes it when it is first asked for, and not safely on several threads at once
    gc.collect()
    gc.freeze()  # what is there by now stays: collections need not look at it again, which stalls the event loop
    keeper = janitor.Janitor(checkpoints, every_s=settings.janitor_every_s)
    keeper.start()
    scrub = Scrubber(
        checkpoints.context, bytes_per_s=settings.scrub_bytes_per_s, every=timedelta(seconds=settings.scrub_every)
    )
    scrub.start()
    probe = LoopProbe()
    watching = asyncio.create_task(probe.watch())
    try:
        process = metrics.ProcessFigures(
            probe.longest_s, lambda: scrub.bytes_read, checkpoints.context.storage.free_bytes
        )
        authenticator = authenticator_of(settings, checkpoints)
        catalog, clock = checkpoints.context.catalog, checkpoints.context.clock
        yield {
            "checkpoints": checkpoints,
            "metrics": lambda prefix: metrics.registry(
                checkpoints.queries, process, checkpoints.quota_claims.usage, prefix
            ),
            "authenticator": authenticator,
            "sessions": Sessions(catalog, authenticator, clock),
            "links": Links(catalog, authenticator, clock),
        }
    finally:
        watching.cancel()
        scrub.stop()
        keeper.stop()
        checkpoints.close()


def authenticator_of(settings: Settings, checkpoints: Checkpoints) -> Authenticator:
    """Whoever knows the tokens of this root; the first one is made where that is wanted.

    Raises
    ------
    UnusableToken
        The file for the token cannot be used, or holds one that could be guessed.
    """
    context = checkpoints.context
    issuer = token_issuer_of(context)
    issuer.revoke_again()
    configured = settings.admin_token_text
    if configured is None and settings.admin_token_file is not None:
        try:
            configured = issuer.bootstrap(settings.admin_token_file)
        except (OSError, UnicodeError) as error:
            raise UnusableToken(f"HOLDFAST_ADMIN_TOKEN_FILE: {error}") from error
        refuse_weak(configured, "HOLDFAST_ADMIN_TOKEN_FILE")
    logs.hide(configured)
    if configured is not None or issuer.all():
        try:
            context.storage.protect()  # it stays closed if the setting is forgotten, or the catalog lost
        except OSError as error:  # a full disk is no reason not to start
            logger.warning("nothing but its settings keeps this server closed: %s", error)
    return Authenticator(
        context.catalog, clock=context.clock, configured=configured, protected=context.storage.is_protected
    )


def token_issuer_of(context: Context) -> TokenIssuer:
    """Whoever makes and revokes the tokens of a root."""
    return TokenIssuer(context.catalog, context.storage, clock=context.clock)


def on_the_command_line() -> Actor:
    """Whoever runs a command."""
    return Actor("command", os.environ.get("USER", ""))


def look_at_root(settings: Settings) -> Context:
    """The root as it is, also while a server has it, for those who change nothing.

    Raises
    ------
    RootUnusable, CatalogUnusable
        There is no root or catalog of this version.
    """
    refuse_no_root(settings)
    storage = LocalStorage(settings.root, version=__version__, only_look=True)
    try:
        return Context(Catalog(settings.catalog_url, as_it_is=True), storage, utc_now)
    except BaseException:
        storage.close()
        raise


def refuse_no_root(settings: Settings) -> None:
    """`RootMissing` where nobody has ever made a root."""
    if not (settings.root / ".holdfast" / "format.json").is_file():  # one that lost it is made whole by a start
        raise RootMissing(f"There is no root at {settings.root}.")


def open_root(settings: Settings, *, clock: Callable[[], datetime] = utc_now, closely: bool = True) -> Checkpoints:
    """Take the root for this process and bring it to order; a catalog that was lost, or is an older one, is made anew.

    ``closely`` also compares each directory with its rows, for which who checks everything has no need.

    Raises
    ------
    RootUnusable, CatalogUnusable
        Another process has the root, it is of a newer layout, or the database cannot be used or is that of another
        root.
    """
    return opened_root(settings, clock=clock, closely=closely)[0]


def opened_root(
    settings: Settings, *, clock: Callable[[], datetime] = utc_now, closely: bool = True
) -> tuple[Checkpoints, Rebuilt | None]:
    """Take the root as `open_root` does; also what was found where the catalog had to be made anew.

    Raises
    ------
    RootUnusable, CatalogUnusable
    """
    checkpoints, rebuilt = _opened(settings, clock, closely=closely)
    if rebuilt is not None:
        said = "rebuilt the catalog: %d checkpoints, %d removed ones in the trash, %d faults"
        logger.warning(said, rebuilt.checkpoints, rebuilt.removed, len(rebuilt.faults))
        for fault in rebuilt.faults:
            logger.warning("left alone: %s", fault)
        for remark in rebuilt.remarks:
            logger.warning("taken in, but %s", remark)
    return checkpoints, rebuilt


def reindex_root(settings: Settings, *, read: Callable[[int], object] = lambda _: None) -> Rebuilt:
    """Bring a root to order as `open_root` does, its catalog made anew in any case, and let go of it; what was found.

    ``read`` is told how many manifests were read so far.

    Raises
    ------
    RootUnusable, CatalogUnusable
    """
    if not settings.root.is_dir():
        raise RootMissing(f"There is no root at {settings.root}.")
    checkpoints, rebuilt = _opened(settings, utc_now, read, must_exist=True)
    try:
        return rebuilt or rebuild(checkpoints.context, read=read)
    finally:
        checkpoints.close()


def _opened(
    settings: Settings,
    clock: Callable[[], datetime],
    read: Callable[[int], object] = lambda _: None,
    *,
    closely: bool = True,
    must_exist: bool = False,
) -> tuple[Checkpoints, Rebuilt | None]:
    storage = LocalStorage(settings.root, version=__version__, must_exist=must_exist)
    try:
        catalog = Catalog(settings.catalog_url)
    except BaseException:
        storage.close()
        raise
    context = Context(catalog, storage, clock)
    rules = Rules(
        lease=timedelta(seconds=settings.upload_lease_s),
        writer_window=timedelta(seconds=settings.writer_window_s),
        undo_window=timedelta(seconds=settings.undo_window),
        reserve_bytes=settings.reserve_bytes,
        most_uploads=settings.max_uploads_per_token,
        copy_catalog_every=timedelta(seconds=settings.copy_catalog_every),
        quotas=settings.quotas,
        limits=settings.limits,
    )
    checkpoints = Checkpoints(context, rules)
    try:
        why = why_anew(context, str(settings.root.resolve()), closely=closely)
        if why is not None:
            logger.warning("the catalog is made anew from the files: %s", why)
            if kept := catalog.keep_copy(clock()):
                logger.warning("%s is a copy of it, with its tokens and its audit", kept)
        is_lost = catalog.is_new
        rebuilt = janitor.recover(
            checkpoints, rebuild_catalog=why is not None, is_behind=why is not None and not is_lost, read=read
        )
        rebuilt = rebuilt and replace(rebuilt, why=why or "")
        catalog.mark_complete()
        storage.upgrade()
        _sign(context)
    except BaseException:
        checkpoints.close()
        raise
    return checkpoints, rebuilt


def _sign(context: Context) -> None:
    try:
        sign(context)
    except (OSError, Refusal) as error:  # a full disk is no reason not to start
        logger.warning("an older catalog, if one is ever put back, is not known by its mark: %s", error)
