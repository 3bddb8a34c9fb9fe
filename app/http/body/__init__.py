"""Request and response bodies: raw bytes, large JSON, and envelopes that clients wrap around files.

Decides how a body is read without blocking the event loop or filling the memory.
May import `core`; never a route.
"""
