"""Holdfast inside the frameworks that people train with: one module for each, imported by its users only.

Every module imports its framework, so that none of them is needed for the others, nor for `holdfast` itself.

Decides how a framework's own calls become saves, loads and queries. May import everything of the client; never changes
how a save or a load of the client works, and never opens a connection while it is imported.
"""
