"""State that use cases share in the memory of this process, and helpers that they share.

Decides which uploads are open, which commits are pending, which quotas are claimed, what is cached, copied or
purged. Several servers would have to share it, and with it the locks of `catalog` and the request counts of `http`;
buffers and caches elsewhere belong to one process, and say so.
May import `core`, `runtime`, `catalog`, `storage.ports` and `service.state.events`; never a use case, never HTTP.
"""
