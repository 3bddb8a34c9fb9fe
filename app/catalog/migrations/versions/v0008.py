"""An index of events by directory: a stream that resumes finds its own among millions of others."""

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.create_index("events_of_directory", "events", ["directory", "id"])
