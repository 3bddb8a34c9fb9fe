"""Schemas: requests and answers as JSON. Requests are strict; answers say all that is known.

Decides the names and bounds of every field on the wire.
May import `core` and values of `service`; knows no route.
"""
