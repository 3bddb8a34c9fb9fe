"""The dashboard: pages for people, who sign in with a token and see the directories that it reaches.

`pages` has one module for each page, `render` turns values into HTML.
Decides which pages there are, and which errors browsers see as pages.
May import `core`, `http`, `dashboard.pages` and `dashboard.render`; never touches storage or SQL.
"""
