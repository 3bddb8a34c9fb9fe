"""JSON of shared uploads: the requests of their writers, and lists of open uploads.

Decides the fields of these requests and answers. May import `core`, `service` and `api.schemas`; never routes or SQL.
"""
