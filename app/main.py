"""Put the server together: the one place where settings become values and parts meet."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TypedDict

from fastapi import APIRouter, Depends, FastAPI
from fastapi_offline import FastAPIOffline
from prometheus_client import CollectorRegistry

from app import __version__, auth, janitor, metrics
from app.api import checkpoints as checkpoint_routes
from app.api import directories, events, files, openapi, operations, problems, pruning, uploads
from app.api.dependencies import only_known_queries
from app.catalog import Catalog
from app.checkpoints import Checkpoints, Parts
from app.middleware import SameSite
from app.probe import LoopProbe
from app.settings import Settings
from app.storage.local import LocalStorage


class State(TypedDict):
    """What requests find in ``request.state``."""

    checkpoints: Checkpoints
    metrics: CollectorRegistry


def create_app(settings: Settings, opened: Checkpoints | None = None) -> FastAPI:
    """The server as an ASGI application. It takes the root when it starts, unless that was opened before."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[State]:
        checkpoints = opened or open_root(settings)
        app.state.bell = checkpoints.parts.bell
        app.openapi()  # the framework makes it when it is first asked for, and not safely on several threads at once
        gc.collect()
        gc.freeze()  # what is there by now stays: collections need not look at it again, which stalls the event loop
        keeper = janitor.Janitor(checkpoints, every_s=settings.janitor_every_s)
        keeper.start()
        probe = LoopProbe()
        watching = asyncio.create_task(probe.watch())
        try:
            yield {"checkpoints": checkpoints, "metrics": metrics.registry(checkpoints.finding, probe.longest_s)}
        finally:
            watching.cancel()
            keeper.stop()
            checkpoints.close()

    app: FastAPI = FastAPIOffline(
        title="Holdfast",
        version=__version__,
        summary="A checkpoint server for training jobs.",
        description=openapi.DESCRIPTION,
        redoc_url=None,
        lifespan=lifespan,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.guard = auth.Guard(settings.token_text)
    app.state.root = str(settings.root.resolve())
    problems.install(app)
    v1 = APIRouter(prefix="/v1", dependencies=[Depends(only_known_queries)], max_body_size=settings.max_json_bytes)
    for routes in (directories, files, checkpoint_routes, uploads, pruning, events):
        v1.include_router(routes.router)
    v1.include_router(operations.api)
    app.include_router(v1)
    app.include_router(operations.outside)
    openapi.install(app)
    app.add_middleware(SameSite, check_host=app.state.guard.is_open, allowed_hosts=settings.allowed_hosts)
    return app


def open_root(settings: Settings, *, rebuild_catalog: bool = False) -> Checkpoints:
    """Take the root for this process and bring it to order.

    Raises
    ------
    CatalogUnusable
        Another process has the root, it is of a newer layout, or the database cannot be used.
    """
    storage = LocalStorage(settings.root, version=__version__)
    try:
        catalog = Catalog(settings.catalog_url)
    except BaseException:
        storage.close()
        raise
    parts = Parts(
        catalog,
        storage,
        clock=lambda: datetime.now(UTC),
        lease=timedelta(seconds=settings.upload_lease_s),
        writer_window=timedelta(seconds=settings.writer_window_s),
    )
    checkpoints = Checkpoints(parts)
    try:
        lost = catalog.is_new and not storage.is_new
        janitor.recover(checkpoints, rebuild_catalog=rebuild_catalog or lost)
        catalog.mark_complete()
    except BaseException:
        checkpoints.close()
        raise
    return checkpoints
