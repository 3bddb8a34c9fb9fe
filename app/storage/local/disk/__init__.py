"""Files and folders of a Linux file system: reached without following links, changed so that changes last.

Decides how a single step is made durable.
May import `core` and `storage.ports`; never handles a checkpoint.
"""
