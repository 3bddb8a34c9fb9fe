"""The Holdfast checkpoint server; `main` assembles its parts, and each folder holds one of them.

Decides the version.
May import nothing itself; never the client, and never torch or a pickle module, in any module below.
"""

__version__ = "0.1.0"
