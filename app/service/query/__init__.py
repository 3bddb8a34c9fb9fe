"""Questions: find, open, compare, verify, and overviews for people.

Decides which answers come from rows and which from storage. Changes nothing but verification marks.
May import `core`, `catalog`, `storage.ports` and `service.state`; never HTTP, never a path on the disk.
"""
