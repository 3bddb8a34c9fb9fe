"""Figures of the integrations, measured with the frameworks themselves: ``scripts/benchmark --frameworks``.

Decides what is compared with what. It runs in .venv-integrations.
"""
