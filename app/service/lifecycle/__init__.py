"""The life of a committed checkpoint: edit, remove, prune, purge, restore.

Decides which checkpoints are marked as removed and when they are purged; the rules are in `core.retention`.
May import `service.state`; never HTTP, never a path on the disk.
"""
