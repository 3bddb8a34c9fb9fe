"""The path at which a proxy shows the server, when it is not the root of a host: ``https://host/holdfast/``."""

from starlette.types import ASGIApp, Receive, Scope, Send


class RootPath:
    """Routes requests below a path, whether or not the proxy has stripped that path from the address.

    Everything that makes an address reads ``scope["root_path"]``, as ASGI has it; ``scope["path"]`` begins with it.
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
    """The path of a request below the root path, as routes and rules know it."""
    path: str = scope["path"]
    root_path: str = scope.get("root_path", "")
    if root_path and (path == root_path or path.startswith(f"{root_path}/")):
        return path[len(root_path) :] or "/"
    return path
