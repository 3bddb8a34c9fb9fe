"""What the API's description says beyond its routes, and how it is written down."""

import json
from functools import cache
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from app.core.errors import BodyAltered, InvalidHttp, PartialBody, UnsupportedEncoding, UnsupportedMediaType
from app.http.problems import Problem, problem_schema

DESCRIPTION = """\
Holdfast keeps checkpoints of training jobs as plain files, keeps the last N and the best K of them, and gives the best
or the latest to anyone who asks.

Save:  `curl --data-binary @model.pt 'http://127.0.0.1:8420/v1/checkpoints?directory=runs/a&epoch=1&metric=0.3'`

Fetch: `curl 'http://127.0.0.1:8420/v1/checkpoints/best/content?directory=runs/a' -o best.pt`

Refusals are RFC 9457 problem details with a stable `code`.

JSON answers carry a `Content-Digest` (RFC 9530). A request with a body may carry one, and is refused where it is not
true of the body. A body in an encoding, or a form, is 415.
"""


def install(app: FastAPI) -> None:
    """Describe refusals as problem details, and the token."""

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _described(app)
        return app.openapi_schema

    app.openapi = described  # type: ignore[method-assign]


@cache
def query_names(app: FastAPI) -> dict[str, dict[str, bool]]:
    """The query parameters of each operation, by its id, and whether each may be given more than once."""
    return {
        operation["operationId"]: {
            parameter["name"]: parameter["schema"].get("type") == "array"
            for parameter in operation.get("parameters", ())
            if parameter["in"] == "query"
        }
        for operations in app.openapi()["paths"].values()
        for operation in operations.values()
    }


def dump(app: FastAPI) -> str:
    """The description as text that is the same whenever the API is."""
    return json.dumps(app.openapi(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _described(app: FastAPI) -> dict[str, Any]:
    schema = get_openapi(
        title=app.title, version=app.version, summary=app.summary, description=app.description, routes=app.routes
    )
    for operations in schema["paths"].values():
        for operation in operations.values():
            if "requestBody" in operation:
                wrapped = [UnsupportedMediaType.code, UnsupportedEncoding.code]
                operation["responses"][str(BodyAltered.status)] = problem_schema(
                    [BodyAltered.code, InvalidHttp.code, PartialBody.code]
                )
                operation["responses"][str(UnsupportedEncoding.status)] = problem_schema(wrapped)
    components = schema["components"]
    components["schemas"]["Problem"] = Problem.model_json_schema()
    for unused in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(unused, None)
    components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    schema["security"] = [{}, {"token": []}]
    return schema
