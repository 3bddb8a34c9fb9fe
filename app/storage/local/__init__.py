"""Checkpoints as plain files below one root of a Linux file system.

Decides which file is where, in which order files move, and what is durable when.
May import `core` and the port; never imports the catalog, and follows no link.
"""
