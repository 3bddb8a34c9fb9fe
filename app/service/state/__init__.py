"""State that several use cases share in the memory of this process, and the transitions that they record.

Decides which uploads are open, which claims on quotas are pending and who is notified.
May import `core`, `catalog` and the storage port. Several servers would have to share what is here.
"""
