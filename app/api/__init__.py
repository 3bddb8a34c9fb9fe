"""The HTTP API: dependencies that routes share, file responses and the OpenAPI description.

Decides which permissions a route needs; `routes` and `schemas` are below.
May import `service`, `http` and `auth`; never touches storage or SQL.
"""
