"""Aggregates for the dashboard, the metrics, retention and the tree: overviews, ranks, histories, series and levels.

Decides how many rows become few figures or names, in SQL.
May import `core`, `catalog.tables` and `catalog.rows`; never writes.
"""
