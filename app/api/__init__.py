"""The HTTP API: shared dependencies, file responses, the OpenAPI description and the Prometheus metrics.

The routes are in `routes`, their JSON in `schemas`.

Decides which permissions a route needs, and which parameters and preconditions it accepts.
May import `core`, `auth`, `catalog.reports`, `http`, `service` and `api.schemas`; never touches storage or SQL.
"""
