"""A file system over a server: paths, whole files and parts of them, and files being written. Knows no framework.

Decides how names that the server does not take are escaped, and which calls of the API a path becomes.
May import `errors`, `_runtime`, `_arguments`, `_api` and `_transfer`; never a framework, and never decides whether to
save.
"""
