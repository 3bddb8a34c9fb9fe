"""Names of columns that say what they hold, and the marks of openings, which used to be made beside the migrations.

SQLite renames columns and tables in the schema alone: no row is rewritten.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.alter_column("directories", "dirty", new_column_name="record_stale")
    op.drop_index("behind", "checkpoints")
    op.alter_column("checkpoints", "dirty", new_column_name="manifest_stale")
    stale = sa.text("manifest_stale")
    op.create_index("stale_manifests", "checkpoints", ["id"], sqlite_where=stale, postgresql_where=stale)
    op.drop_index("uploads_by_place", "uploads")
    op.alter_column("uploads", "place", new_column_name="saved_after")
    op.create_index("uploads_by_position", "uploads", ["directory", "saved_after"])
    if sa.inspect(op.get_bind()).has_table("openings"):
        op.rename_table("openings", "root_marks")
    else:
        op.create_table(
            "root_marks",
            sa.Column("root", sa.String, nullable=False),
            sa.Column("opening", sa.String, primary_key=True),
        )
