"""The ASGI application: routes, middleware, and the background work of its lifespan."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TypedDict

from fastapi import APIRouter, Depends, FastAPI
from fastapi_offline import FastAPIOffline
from prometheus_client import CollectorRegistry

from app import __version__
from app.api import openapi, prometheus
from app.api.dependencies import only_known_preconditions, only_known_queries
from app.api.routes import (
    audit,
    content,
    diff,
    directories,
    events,
    links,
    operations,
    prune,
    saves,
    shared_uploads,
    tree,
    uploads,
)
from app.api.routes import checkpoints as checkpoint_routes
from app.auth.authenticator import Authenticator
from app.auth.exposure import refuse_weak
from app.auth.links import Links
from app.auth.sessions import Sessions
from app.bootstrap import build_authenticator, open_root
from app.dashboard import install
from app.http import problems
from app.http.authentication import Authentication
from app.http.content_digest import ContentDigests
from app.http.origin_checks import OriginChecks
from app.http.request_id import RequestContext
from app.http.root_path import RootPath
from app.runtime.loop_lag import LoopProbe
from app.service import Service
from app.service.maintenance import janitor
from app.service.maintenance.catalog_agreement import root_id
from app.service.maintenance.scrub import Scrubber
from app.settings import Settings

CANCELLED_S = 5.0
"""The longest that a stopping server waits for requests that it has cancelled, in seconds."""


class State(TypedDict):
    """The values in ``request.state``."""

    service: Service
    metrics: Callable[[str], CollectorRegistry]
    authenticator: Authenticator
    sessions: Sessions
    links: Links


def create_app(settings: Settings, opened: Service | None = None) -> FastAPI:
    """Build the ASGI application. It opens the root at start-up, unless ``opened`` is given.

    Raises
    ------
    UnusableToken
        The configured admin token can be guessed or cannot be sent in a header.
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
    app.state.requests = set[asyncio.Task[None]]()  # those under way, if the server tells
    app.state.max_json_bytes = settings.max_json_bytes
    problems.install(app)
    v1 = APIRouter(
        prefix="/v1",
        dependencies=[Depends(only_known_queries), Depends(only_known_preconditions)],
        max_body_size=settings.max_json_bytes,
    )
    for routes in (
        *(directories, tree, content, checkpoint_routes, diff, uploads, shared_uploads, saves, links, prune, events),
        audit,
    ):
        v1.include_router(routes.router)
    v1.include_router(operations.api)
    app.include_router(v1)
    app.include_router(operations.outside)
    install.install(app)
    openapi.install(app)
    # The last one wraps all others, so that refusals have a request id and a digest as well.
    app.add_middleware(Authentication, max_requests_per_token=settings.max_requests_per_token)
    app.add_middleware(OriginChecks, allowed_hosts=settings.allowed_hosts, answer=install.refusal_response)
    app.add_middleware(RequestContext, log_access=settings.access_log)
    app.add_middleware(ContentDigests)
    app.add_middleware(RootPath, root_path=settings.root_path)
    return app


@asynccontextmanager
async def _running(app: FastAPI, settings: Settings, opened: Service | None) -> AsyncIterator[State]:
    """Run background work during the lifespan of the application."""
    service = opened or open_root(settings)
    app.state.service = service
    app.state.server_id = root_id(service.context)
    app.openapi()  # built now, as FastAPI builds it at the first request, which is not thread-safe
    gc.collect()
    gc.freeze()  # collections skip these objects from now on: scanning them would stall the event loop
    keeper = janitor.Janitor(service, every_s=settings.janitor_every_s)
    keeper.start()
    scrub = Scrubber(
        service.context, bytes_per_s=settings.scrub_bytes_per_s, every=timedelta(seconds=settings.scrub_every)
    )
    scrub.start()
    probe = LoopProbe()
    watching = asyncio.create_task(probe.watch())
    try:
        volume = service.context.storage.volume
        process = prometheus.ProcessFigures(
            probe.longest_s, lambda: scrub.bytes_read, volume.free_bytes if volume is not None else None
        )
        authenticator = build_authenticator(settings, service)
        catalog, clock = service.context.catalog, service.context.clock
        yield {
            "service": service,
            "metrics": lambda prefix: prometheus.registry(service.lookups, process, service.quota_claims.usage, prefix),
            "authenticator": authenticator,
            "sessions": Sessions(catalog, authenticator, clock),
            "links": Links(catalog, authenticator, clock),
        }
    finally:
        watching.cancel()
        await _ended(app.state.requests)
        scrub.stop()
        keeper.stop()
        service.close()


async def _ended(requests: Collection[asyncio.Task[None]]) -> None:
    """Wait for cancelled requests, which abort their uploads before the root is closed."""
    if requests:
        await asyncio.wait(set(requests), timeout=CANCELLED_S)
