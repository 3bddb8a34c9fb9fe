"""Schemas: requests and responses as JSON. Requests reject unknown fields; responses may gain fields.

Decides the names and bounds of every field on the wire.
May import `core`, `catalog`, `http` and `service`; never a route.
"""
