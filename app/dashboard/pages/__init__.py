"""The pages, one module for each; a page is a route that answers with HTML.

Decides what a page shows and which forms it has.
May import `service`, `http`, `auth` and `dashboard.render`; never touches storage or SQL.
"""
