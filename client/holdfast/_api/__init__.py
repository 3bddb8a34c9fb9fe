"""The API of one server: requests, retries, its JSON as frozen values, digests.

Decides what is asked of the server and when it is asked again.
May import `_connection`; never reads a state or a spool.
"""
