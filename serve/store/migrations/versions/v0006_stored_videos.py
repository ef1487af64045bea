"""Stored videos: features of their windows, tags, and a counter of changes."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Make the tables, and the row of the counter."""
    op.create_table(
        "stored_videos",
        sa.Column("video_id", sa.String(32), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("model_name", sa.String(200), nullable=False),
        sa.Column("model_version", sa.Integer(), nullable=False),
        sa.Column("model_digest", sa.String(64), nullable=False),
        sa.Column("key_id", sa.String(12)),
        sa.Column("num_windows", sa.Integer(), nullable=False),
        sa.Column("num_bytes", sa.BigInteger(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("created_at", sa.String(40), nullable=False),
        sa.Column("expires_at", sa.String(40)),
        sa.Column("is_complete", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("video_id", name="pk_stored_videos"),
    )
    op.create_index("ix_stored_videos_key_id", "stored_videos", ["key_id"])
    op.create_index("ix_stored_videos_created_at", "stored_videos", ["created_at"])
    op.create_index("ix_stored_videos_expires_at", "stored_videos", ["expires_at"])
    op.create_table(
        "stored_video_tags",
        sa.Column("video_id", sa.String(32), nullable=False),
        sa.Column("tag", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("video_id", "tag", name="pk_stored_video_tags"),
        sa.ForeignKeyConstraint(
            ["video_id"],
            ["stored_videos.video_id"],
            name="fk_stored_video_tags_stored_videos",
            ondelete="CASCADE",
        ),
    )
    op.create_index("ix_stored_video_tags_tag", "stored_video_tags", ["tag"])
    op.create_table(
        "stored_features",
        sa.Column("video_id", sa.String(32), nullable=False),
        sa.Column("part", sa.Integer(), nullable=False),
        sa.Column("num_windows", sa.Integer(), nullable=False),
        sa.Column("windows", sa.LargeBinary(), nullable=False),
        sa.Column("video_features", sa.LargeBinary(), nullable=False),
        sa.Column("prototype_features", sa.LargeBinary()),
        sa.Column("patch_features", sa.LargeBinary()),
        sa.PrimaryKeyConstraint("video_id", "part", name="pk_stored_features"),
        sa.ForeignKeyConstraint(
            ["video_id"],
            ["stored_videos.video_id"],
            name="fk_stored_features_stored_videos",
            ondelete="CASCADE",
        ),
    )
    changes = op.create_table(
        "stored_video_changes",
        sa.Column("one", sa.Integer(), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("one", name="pk_stored_video_changes"),
    )
    op.bulk_insert(changes, [{"one": 1, "generation": 0}])


def downgrade() -> None:
    """Drop the tables."""
    for name in ("stored_video_changes", "stored_features", "stored_video_tags", "stored_videos"):
        op.drop_table(name)
