"""The life of a committed checkpoint: edit, remove, prune, purge, restore.

Decides which checkpoints a request removes, and when removed ones are purged; a save prunes in
`commit.record_and_prune`. The rules are in `core.retention`.
May import `core`, `catalog`, `storage.ports` and `service.state`; never HTTP, never a path on the disk.
"""
