"""Steps beside epochs, the interval of steps that a policy keeps, and who decides how long a checkpoint stays."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"

_Name = sa.String().with_variant(sa.String(collation="C"), "postgresql")
_Int64 = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("directories", sa.Column("keep_every_steps", _Int64))
    op.add_column("checkpoints", sa.Column("step", _Int64))
    op.add_column("checkpoints", sa.Column("retention", _Name, nullable=False, server_default="policy"))
    op.add_column("metric_history", sa.Column("step", _Int64))
    _index("live_by_step", ["directory", "step", "saved_after", "sequence"], "removed_at IS NULL")
    _index("live_manual", ["directory", "retention", "removed_at"], "removed_at IS NULL AND retention = 'manual'")


def _index(name: str, columns: list[str], condition: str) -> None:
    where = sa.text(condition)
    op.create_index(name, "checkpoints", columns, sqlite_where=where, postgresql_where=where)
