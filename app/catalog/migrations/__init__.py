"""Migrations: one step in `versions` for each change of the tables.

Decides how a catalog of an earlier version becomes one of this version, in one transaction. The steps are
for SQLite: only there are catalogs of earlier versions.
May import `core` and `catalog.tables`; a step never imports what a later version may change.
"""
