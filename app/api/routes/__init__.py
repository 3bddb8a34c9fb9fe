"""The routes of the API, one module for each noun.

Decides the address, the scope and the answer of each operation; what it does is decided by a use case.
May import `service`, `http`, `auth` and the schemas; never touches storage or SQL.
"""
