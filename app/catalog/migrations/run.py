"""Migration of a catalog to the tables of this version, in the transaction of the caller: all steps or none."""

import logging
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect

from app.catalog.tables import schema
from app.core.errors import CatalogUnusable

logger = logging.getLogger("holdfast")

_FIRST = "0001"  # the tables of version 0.1.0, which recorded no revision
_SUMS = "0013"
"""The last step that makes a table of sums of checkpoints."""
_SCRIPTS = Path(__file__).parent


def migrate(connection: Connection, *, read_only: bool = False) -> bool:
    """Run the steps that this catalog lacks; an empty one gets the tables of this version at once.

    Returns True if the caller has to count the rows of checkpoints, as a table of sums of them is new.

    The steps up to 0011 are written for SQLite alone, as no other database can have tables that need them.

    Raises
    ------
    CatalogUnusable
        A newer version of the server has migrated the tables; or steps are missing, and the catalog is read-only.
    """
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    config.attributes["connection"] = connection
    scripts = ScriptDirectory.from_config(config)
    found = MigrationContext.configure(connection).get_current_revision()
    if read_only and found != scripts.get_current_head():
        raise CatalogUnusable("Another version of Holdfast has used this catalog; start the server once.")
    if found is None and not inspect(connection).has_table("checkpoints"):
        schema.metadata.create_all(connection)
        command.stamp(config, "head")
        return False
    if found is None:
        command.stamp(config, _FIRST)
        found = _FIRST
    if found == scripts.get_current_head():
        return False
    if found not in {script.revision for script in scripts.walk_revisions()}:
        raise CatalogUnusable(
            f"A newer version of Holdfast has used this catalog (its tables are of step {found}, this version knows "
            f"those up to {scripts.get_current_head()}). Install that version again."
        )
    logger.info("migrating the catalog from step %s to %s", found, scripts.get_current_head())
    command.upgrade(config, "head")
    return found < _SUMS
