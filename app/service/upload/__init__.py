"""Uploads before their commit: reserve, receive, deduplicate, abort.

Decides whether a save is admitted and which bytes need not be sent.
May import `core`, `runtime`, `catalog`, `storage.ports`, `service.state`, `service.lifecycle` and `service.query`;
never HTTP, never a path on the disk.
"""
