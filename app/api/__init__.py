"""The HTTP API: shared dependencies, file responses and the OpenAPI description; `routes` and `schemas` are below.

Decides which permissions a route needs, and which parameters and preconditions it accepts.
May import `core`, `auth`, `http`, `service` and `api.schemas`; never touches storage or SQL.
"""
