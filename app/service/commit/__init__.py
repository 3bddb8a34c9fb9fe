"""Commits: finalize the bytes, publish the files, record the checkpoint; saves and copies in a single request.

Decides when a checkpoint exists. From the seal on every step is idempotent.
May import `core`, `formats`, `runtime`, `catalog`, `storage.ports`, `service.state`, `service.lifecycle`,
`service.query` and `service.upload`; never HTTP, never a path on the disk.
"""
