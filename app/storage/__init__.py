"""Storage: the port behind which bytes and records lie, and the manifest that describes them.

Decides what any storage must promise; `local` keeps plain files.
May import `core`; never imports the catalog, and no other folder opens a file below the root.
"""
