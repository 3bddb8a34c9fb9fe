"""Aggregates for the dashboard, the metrics and retention: overviews, ranks, histories and series.

Decides how many rows become few figures, in SQL.
May import `core`, `catalog.tables` and `catalog.rows`; never writes.
"""
