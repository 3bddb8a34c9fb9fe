"""Checkpoints as plain files below one root of a Linux file system.

Decides which file is where, in which order files move, and what is durable when.
May import `core`, `storage` and `storage.local.disk`; never imports the catalog, and follows no link.
"""
