"""The root path: the prefix under which a proxy serves Holdfast, as in ``https://host/holdfast/``."""

from starlette.types import ASGIApp, Receive, Scope, Send


class RootPath:
    """Middleware that accepts requests with and without the root path, as some proxies strip it and some do not.

    As ASGI requires, ``scope["root_path"]`` holds the prefix and ``scope["path"]`` begins with it. Code that builds
    addresses reads ``scope["root_path"]``.
    """

    def __init__(self, app: ASGIApp, *, root_path: str) -> None:
        self._app = app
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._root_path and scope["type"] == "http":
            scope = {**scope, "root_path": self._root_path}
            scope["path"] = self._root_path + route_path(scope)
        await self._app(scope, receive, send)


def route_path(scope: Scope) -> str:
    """Return the path of a request without the root path, as routes are declared."""
    path: str = scope["path"]
    root_path: str = scope.get("root_path", "")
    if root_path and (path == root_path or path.startswith(f"{root_path}/")):
        return path[len(root_path) :] or "/"
    return path
