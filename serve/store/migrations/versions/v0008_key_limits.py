"""Limits of API keys, and the use that is counted for them."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
LIMITS = ("rate_requests", "rate_seconds", "max_concurrency", "daily_quota")


def upgrade() -> None:
    """Add the columns, empty for existing keys, and make the tables."""
    for name in LIMITS:
        op.add_column("api_keys", sa.Column(name, sa.Integer()))
    op.create_table(
        "key_usage",
        sa.Column("key_id", sa.String(12), nullable=False),
        sa.Column("ready_at", sa.Double(), nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("day_requests", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("key_id", name="pk_key_usage"),
    )
    op.create_table(
        "key_requests",
        sa.Column("request_id", sa.String(32), nullable=False),
        sa.Column("key_id", sa.String(12), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("request_id", name="pk_key_requests"),
    )
    op.create_index("ix_key_requests_key_id", "key_requests", ["key_id"])


def downgrade() -> None:
    """Drop the tables and the columns."""
    op.drop_table("key_requests")
    op.drop_table("key_usage")
    for name in LIMITS:
        op.drop_column("api_keys", name)
