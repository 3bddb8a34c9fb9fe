"""Migrations: one step in `versions` for each change of the tables.

Decides how a catalog of an earlier version becomes one of this version, in one transaction. Only SQLite has catalogs
of earlier versions: another database begins with the tables of `schema`, at the latest step.
May import `core` and `catalog.tables`; a step never imports what a later version may change.
"""
