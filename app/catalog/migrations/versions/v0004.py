"""An index of live checkpoints alone, so that queries skip what was removed long ago."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    columns = ["directory", "saved_after", "sequence", "kind", "metric", "metric_text", "is_best", "size_bytes", "id"]
    op.create_index("live", "checkpoints", columns, sqlite_where=sa.text("removed_at IS NULL"))
