"""Request and response bodies: raw bytes, large JSON, and what may wrap them.

Decides how a body is read without stopping the event loop or filling the memory.
May import `core`; knows no route.
"""
