"""State that use cases share in the memory of this process: all that several servers would have to share is here.

Decides which uploads are open, which commits are pending, which quotas are claimed, what is cached, copied or purged.
May import `core`, `runtime`, `catalog` and the storage port; never a use case, never HTTP.
"""
