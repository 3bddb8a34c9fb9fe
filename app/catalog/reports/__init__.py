"""Aggregates for people and for metrics: overviews, standings, histories and series.

Decides how many rows become few figures, in SQL.
May import `core`, `catalog.tables` and `catalog.rows`; never writes.
"""
