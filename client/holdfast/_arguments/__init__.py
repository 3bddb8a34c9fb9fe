"""Checks of arguments: names, metrics, metadata and keywords.

Decides what is refused before anything is sent.
May import `errors` and `_runtime`; knows neither httpx nor torch, and never talks to a server.
"""
