"""Shared uploads: several writers declare and send the files of one checkpoint, and are ready before its commit.

Decides on which facts the writers must agree, which attempt of a job counts, and when a commit may follow.
May import `core`, `catalog`, `storage.ports`, `service.state`, `service.upload` and `service.commit`; never HTTP.
"""
