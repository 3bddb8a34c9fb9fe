"""The API of one server: calls, retries, its JSON as frozen values, digests.

Decides which requests are sent to the server and when they are retried.
May import `errors`, `_runtime` and `_connection`; never httpx or torch, and never reads a state or a spool.
"""
