"""The position that an upload receives when it is reserved; earlier uploads have none."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("uploads", sa.Column("place", sa.Integer))
    op.create_index("uploads_by_place", "uploads", ["directory", "place"])
