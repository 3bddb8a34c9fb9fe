"""The catalog: everything that is known, in SQL. `Catalog` opens the database and begins transactions.

Decides what is committed and in which order; `tables`, `rows`, `reports` and `migrations` are below.
May import `core` and `runtime`; never sees where bytes lie.
"""

from app.catalog.catalog import Catalog, Session
from app.catalog.rows.audit import AuditLine
from app.catalog.rows.checkpoints import Named
from app.catalog.rows.tokens import LinkKey
from app.catalog.tables.filters import Page, Query
from app.catalog.tables.order import Order

__all__ = ["AuditLine", "Catalog", "LinkKey", "Named", "Order", "Page", "Query", "Session"]
