"""Vocabularies and their versions."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create both tables."""
    op.create_table(
        "vocabularies",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("latest", sa.Integer(), nullable=False),
        sa.Column("is_deleted", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_vocabularies"),
    )
    op.create_table(
        "vocabulary_versions",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("num_labels", sa.Integer(), nullable=False),
        sa.Column("author", sa.String(200), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("created_at", sa.String(40), nullable=False),
        sa.ForeignKeyConstraint(["name"], ["vocabularies.name"], name="fk_vocabulary_versions_vocabularies"),
        sa.PrimaryKeyConstraint("name", "version", name="pk_vocabulary_versions"),
    )


def downgrade() -> None:
    """Drop both tables."""
    op.drop_table("vocabulary_versions")
    op.drop_table("vocabularies")
