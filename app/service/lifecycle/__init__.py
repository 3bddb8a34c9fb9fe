"""The life of a committed checkpoint: edit, remove, prune, purge, restore.

Decides what is marked as removed and when its bytes are freed; the rules are in `core.retention`.
May import `service.state`; never HTTP, never a path on the disk.
"""
