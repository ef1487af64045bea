"""The API key that each job belongs to; idempotency keys are unique for each of those."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add the column; existing jobs belong to no key."""
    op.add_column("jobs", sa.Column("key_id", sa.String(12), nullable=False, server_default=""))
    op.drop_index("ix_jobs_idempotency_key", "jobs")
    op.create_index("ix_jobs_key_id", "jobs", ["key_id", "idempotency_key"], unique=True)


def downgrade() -> None:
    """Drop the column."""
    op.drop_index("ix_jobs_key_id", "jobs")
    op.create_index("ix_jobs_idempotency_key", "jobs", ["idempotency_key"], unique=True)
    op.drop_column("jobs", "key_id")
