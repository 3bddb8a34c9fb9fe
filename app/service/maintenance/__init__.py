"""Maintenance: fsck, reindex, scrub, adopt, recovery and the periodic tasks.

Decides which damage is repaired, in the background or by command.
May import `core`, `formats`, `runtime`, `catalog`, `storage.ports`, `storage.manifest` and `service`; never HTTP,
never a path on the disk.
"""
