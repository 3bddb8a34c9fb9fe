"""Checks of arguments: names, metrics, metadata and keywords.

Decides what is refused before anything is sent.
May import `errors` and `_runtime`; never httpx or torch, and never talks to a server.
"""
