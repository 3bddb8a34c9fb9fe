"""What is known, in SQL: order, facts and answers. Never sees where bytes live."""

from app.catalog.catalog import Catalog, Session
from app.catalog.checkpoints import Named
from app.catalog.listing import Page, Query
from app.catalog.order import Order

__all__ = ["Catalog", "Named", "Order", "Page", "Query", "Session"]
