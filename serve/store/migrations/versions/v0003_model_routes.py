"""Routes: the version of each model name and the model of each alias."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Create both tables."""
    op.create_table(
        "model_versions",
        sa.Column("configured", sa.String(200), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("previous", sa.Integer()),
        sa.PrimaryKeyConstraint("configured", "name", name="pk_model_versions"),
    )
    op.create_table(
        "model_aliases",
        sa.Column("configured", sa.String(200), nullable=False),
        sa.Column("alias", sa.String(200), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("previous", sa.String(200)),
        sa.PrimaryKeyConstraint("configured", "alias", name="pk_model_aliases"),
    )


def downgrade() -> None:
    """Drop both tables."""
    op.drop_table("model_aliases")
    op.drop_table("model_versions")
