"""The server below the routes: the protocol, time limits, authentication, problem details and ranges.

Decides who is let in, how a connection behaves and how a refusal is answered.
May import `core`, `runtime` and `auth`; knows no route and no checkpoint.
"""
