"""Rules and models: names, ranking, retention, quotas, access, digests, and the refusals.

Decides what is allowed, what is best, what stays and how bytes are named.
May import nothing of `app`; no clock, no chance, no disk, no SQL, no HTTP.
"""
