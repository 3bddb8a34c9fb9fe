"""The routes of the API, one module for each noun.

Decides the address, the scope and the response of each operation; a use case decides its effect.
May import `service`, `http`, `auth` and the schemas; never touches storage or SQL.
"""
