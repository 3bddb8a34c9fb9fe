"""Questions: find, open, compare, verify, and overviews for people.

Decides what is answered from rows and what has to be read from storage. Changes nothing but verification marks.
May import `service.state`; never HTTP, never a path on the disk.
"""
