"""Rendering: templates, numbers, trees, sparklines and addresses as text.

Decides the wording and format of values on the pages.
May import `core`, `http` and `service.query`; never fetches anything itself.
"""
