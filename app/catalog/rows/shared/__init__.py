"""Rows of shared uploads: the files that several writers declare, and the writers themselves.

Decides how they are written, and that a row of an earlier attempt stays until its path is declared again.
May import `core` and `catalog.tables`; never other rows, the disk or HTTP.
"""
