"""Saves: whether this process saves, from which snapshot, in which thread, and what happens at shutdown.

Decides where a save ends: on the server, or in the spool.
May import `errors`, `_runtime`, `_arguments`, `_api`, `_torchfile.writer`, `_transfer` and `_spool`; never reads a
checkpoint back.
"""
