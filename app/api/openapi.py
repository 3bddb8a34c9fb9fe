"""The OpenAPI description: summaries, refusals and the token, added to the description that FastAPI derives."""

import json
from functools import lru_cache
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from app.core.errors import BodyAltered, InvalidHttp, PartialBody, UnsupportedEncoding, UnsupportedMediaType
from app.http.problems import Problem, problem_schema

DESCRIPTION = """\
Holdfast stores checkpoints of training jobs as plain files. It keeps the last N and the best K of each directory, and
serves the best and the latest.

Save:  `curl --data-binary @model.pt 'http://127.0.0.1:8420/v1/checkpoints?directory=runs/a&epoch=1&metric=0.3'`

Fetch: `curl 'http://127.0.0.1:8420/v1/checkpoints/best/content?directory=runs/a' -o best.pt`

Errors are RFC 9457 problem details with a stable `code`.

JSON responses carry a `Content-Digest` (RFC 9530). If a request carries one, the server verifies it. Form bodies and
encoded bodies are refused with 415.
"""


def install(app: FastAPI) -> None:
    """Replace the framework's description by this one, built once per application."""

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _described(app)
        return app.openapi_schema

    app.openapi = described  # type: ignore[method-assign]


@lru_cache(maxsize=4)  # one application per process, except in tests
def query_names(app: FastAPI) -> dict[str, dict[str, bool]]:
    """Return the query parameters of each operation by its id, each with True if it may be repeated."""
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
    """Return the description as JSON; identical for the same API."""
    return json.dumps(app.openapi(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _described(app: FastAPI) -> dict[str, Any]:
    schema = get_openapi(
        title=app.title, version=app.version, summary=app.summary, description=app.description, routes=app.routes
    )
    for operations in schema["paths"].values():
        for operation in operations.values():
            operation["summary"] = operation["description"].split("\n")[0].rstrip(".")
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
