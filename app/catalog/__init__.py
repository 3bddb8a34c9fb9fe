"""What is known, in SQL: order, facts and answers. Never sees where bytes live."""

from app.catalog.audit import AuditLine
from app.catalog.catalog import Catalog, Session
from app.catalog.checkpoints import Named
from app.catalog.listing import Page, Query
from app.catalog.order import Order
from app.catalog.tokens import LinkKey

__all__ = ["AuditLine", "Catalog", "LinkKey", "Named", "Order", "Page", "Query", "Session"]
