"""Saves: whether this process saves, from which snapshot, in which thread, and what happens at shutdown.

Decides where a save ends: on the server, or in the spool.
May import `_spool`, `_transfer`, `_torchfile.writer` and `_api`.
"""
