"""The HTTP layer below the routes: protocol, timeouts, authentication, origin checks, problem details and ranges.

Decides who is authenticated, how a connection behaves and how a refusal is answered.
May import `core`, `runtime`, `auth` and `http.body`; never handles a checkpoint.
"""
