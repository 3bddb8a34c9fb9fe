"""Transfers: upload, download, folders, the cache and progress bars.

Decides which ranges are sent or fetched, and where fetched bytes are stored.
May import `errors`, `_runtime`, `_arguments`, `_api` and `_torchfile.reader`; never httpx, and never decides
whether to save.
"""
