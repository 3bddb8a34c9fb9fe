"""Routes for operators: information, health and metrics of the server."""

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from app import __version__
from app.api.dependencies import Reader, ServiceDep
from app.api.schemas.operations import HealthOut, InfoOut, TokenOut
from app.core.errors import NotReady
from app.core.models import CHUNK_MAX_BYTES
from app.http.problems import refuses

api = APIRouter(tags=["operations"])
outside = APIRouter(tags=["operations"])


@api.get("/info", responses=refuses())
def get_info(request: Request, service: ServiceDep, may: Reader) -> InfoOut:
    """Get information about the server and the token of the request.

    Includes the version, the server's id, its root and its limits for chunks and ranges.
    """
    return InfoOut(
        name="Holdfast",
        version=__version__,
        server_id=request.app.state.server_id,
        api="v1",
        root=request.app.state.root if not may.prefix else None,
        docs=f"{request.scope.get('root_path', '')}/docs",
        chunk_max_bytes=CHUNK_MAX_BYTES,
        range_max_bytes=service.contents.range_max_bytes,
        token=TokenOut.of(may),
    )


@outside.get("/health/live", responses=refuses(public=True))
async def live() -> HealthOut:
    """Check liveness: the process answers."""
    return HealthOut(status="live")


@outside.get("/health/ready", responses=refuses(NotReady, public=True))
def ready(service: ServiceDep) -> HealthOut:
    """Check readiness: the catalog answers, the root is writable, and the server is not shutting down."""
    if reason := service.why_not_ready():
        raise NotReady(reason)
    return HealthOut(status="ready")


@outside.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}, **refuses()})
def get_metrics(request: Request, may: Reader) -> Response:
    """Get Prometheus metrics of the directories that the token reaches.

    A token without a prefix also gets the metrics of the server itself.
    """
    return Response(generate_latest(request.state.metrics(may.prefix)), media_type=CONTENT_TYPE_LATEST)
