"""Connections: sockets, TLS, proxies, the token, and the meaning of responses.

Decides how bytes travel between this process and one server.
May import `errors`, `_runtime` and `_arguments`; the only folder that knows httpx; never handles a checkpoint.
"""
