"""Rows, by noun, within the transaction of the caller.

Decides how checkpoints, directories, uploads, tokens, events and audit lines are read and written.
May import `core`, `runtime` and `catalog.tables`; never begins or ends a transaction.
"""
