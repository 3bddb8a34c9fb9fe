"""Shared saves: several processes fill one checkpoint, a folder of files.

Decides in which order a writer declares, sends and reports, and which failures it retries.
May import `errors`, `_runtime`, `_arguments`, `_api`, `_torchfile.reader`, `_torchfile.writer`, `_transfer` and
`_transfer.folders`; never httpx, and never the spool: a part of a checkpoint is of no use by itself.
"""
