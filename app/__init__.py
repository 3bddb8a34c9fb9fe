"""The Holdfast checkpoint server."""

__version__ = "0.1.0"
