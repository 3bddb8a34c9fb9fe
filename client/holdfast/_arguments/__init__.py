"""Checks of arguments: names, metrics, metadata and keywords.

Decides what is refused before anything is sent.
May import `errors` and `_runtime`; never talks to a server.
"""
