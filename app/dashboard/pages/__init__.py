"""The pages, one module for each; a page is a route that answers with HTML.

Decides the contents and forms of each page.
May import `core`, `auth`, `http`, `service`, `api.dependencies`, `api.schemas.parameters` and `dashboard.render`;
never touches storage or SQL.
"""
