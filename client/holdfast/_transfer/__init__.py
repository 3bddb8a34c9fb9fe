"""Transfers: upload, download, folders, the cache and progress bars.

Decides which ranges are sent or fetched, and where fetched bytes lie.
May import `_api` and `_torchfile.reader`; never decides whether to save.
"""
