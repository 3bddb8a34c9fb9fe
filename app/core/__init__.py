"""Rules and models: names, ranking, retention, quotas, access, digests, and the refusals.

Decides what is allowed, what is best, what is kept and how content is addressed.
May import nothing of `app`; never touches clock, randomness, disk, SQL or HTTP.
"""
