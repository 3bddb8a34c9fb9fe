"""The catalog: all records of the server, in SQL. `Catalog` opens the database and begins transactions.

Decides what is committed and in which order; `tables`, `rows`, `reports` and `migrations` are below, and all that
only one database has in its `Dialect` (`sqlite`).
May import `core`, `catalog.tables`, `catalog.rows`, `catalog.reports` and `catalog.migrations`; never sees the files
of checkpoints.
"""

from app.catalog.catalog import Catalog, CatalogError, default_url
from app.catalog.rows.audit import AuditLine
from app.catalog.rows.checkpoint_queries import CheckpointIdentity
from app.catalog.rows.tokens import LinkKey
from app.catalog.session import Session
from app.catalog.tables.filters import ListFilter, Page
from app.catalog.tables.order import Order

__all__ = [
    "AuditLine",
    "Catalog",
    "CatalogError",
    "CheckpointIdentity",
    "LinkKey",
    "ListFilter",
    "Order",
    "Page",
    "Session",
    "default_url",
]
