"""Authentication: tokens, sessions of the dashboard, and signed links.

Decides whom a request comes from and what that token reaches.
May import `core`, `runtime` and `catalog`; never HTTP.
"""
