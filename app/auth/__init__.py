"""Authentication: tokens, sessions of the dashboard, and signed links.

Decides which token a request carries and what that token may reach.
May import `core`, `runtime` and `catalog`; never HTTP.
"""
