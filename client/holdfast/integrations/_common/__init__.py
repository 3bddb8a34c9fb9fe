"""Parts that integrations share: saves with facts of any names, and the agreement of ranks.

Decides what a framework's values become as facts. May import everything of the client; never imports a framework.
"""
