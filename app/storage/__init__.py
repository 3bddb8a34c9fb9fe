"""Storage of bytes and records, and the manifest that describes them.

`ports` has the promises of any store; `local` keeps plain files.
Decides how a manifest is written and read.
May import `core` and `storage.ports`; never imports the catalog. Below the root, only the database of the catalog
and the token file are opened elsewhere.
"""
