"""The steps, one file for each change of the tables.

Decides how one version of the tables becomes the next.
May import nothing of `app`; a released step never changes.
"""
