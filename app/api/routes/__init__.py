"""The routes of the API, one module for each noun.

Decides the address, the scope and the response of each operation; a use case decides its effect.
May import `core`, `auth`, `http`, `service`, `api` and `__version__`; never touches storage or SQL.
"""
