"""Transfers: upload, download, folders, the cache and progress bars.

Decides which ranges are sent or fetched, and where fetched bytes are stored. May import `_api` and `_torchfile.reader`;
knows no httpx, and never decides whether to save.
"""
