"""The dashboard: pages for people, who sign in with a token and see the directories that it reaches.

`pages` has one module for each page, `render` turns values into HTML.
May import `core`, `http`, `dashboard.pages` and `dashboard.render`; never touches storage or SQL.
"""
