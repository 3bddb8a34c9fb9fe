"""Connections: sockets, TLS, proxies, the token and what a response means.

Decides how bytes travel between this process and one server.
May import `_runtime` and `_arguments`; knows no checkpoint.
"""
