"""Commits: finalize the bytes, publish the files, record the checkpoint.

Decides when a checkpoint exists. From the seal on every step is idempotent.
May import `service.state`, `service.lifecycle` and `service.upload`; never HTTP, never a path on the disk.
"""
