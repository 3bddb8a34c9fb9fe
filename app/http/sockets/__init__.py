"""Sockets of connections, handed over: large bodies and files move on a few threads instead of the event loop.

Decides which transfer has a thread, and when it gives it up.
May import `core`, `runtime` and `http`; never a route.
"""
