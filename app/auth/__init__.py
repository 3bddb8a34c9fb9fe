"""Who may: tokens, the sessions of the dashboard, and signed links."""

from app.auth.authority import Authority
from app.auth.links import Links
from app.auth.minting import Minting
from app.auth.sessions import Sessions

__all__ = ["Authority", "Links", "Minting", "Sessions"]
