"""Tables of example clips and of the vocabulary versions that use them."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create both tables."""
    op.create_table(
        "clips",
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("num_bytes", sa.Integer(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("sha256", name="pk_clips"),
    )
    op.create_table(
        "vocabulary_clips",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.ForeignKeyConstraint(
            ["name", "version"],
            ["vocabulary_versions.name", "vocabulary_versions.version"],
            name="fk_vocabulary_clips_vocabulary_versions",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(["sha256"], ["clips.sha256"], name="fk_vocabulary_clips_clips"),
        sa.PrimaryKeyConstraint("name", "version", "sha256", name="pk_vocabulary_clips"),
    )
    op.create_index("ix_vocabulary_clips_sha256", "vocabulary_clips", ["sha256"])


def downgrade() -> None:
    """Drop both tables."""
    op.drop_table("vocabulary_clips")
    op.drop_table("clips")
