"""Rendering: templates, figures, trees, drawings and addresses as text.

Decides how values read for people.
May import `core` and values of `service.query`; asks for nothing itself.
"""
