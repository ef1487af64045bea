"""Tables of the store. Each change needs a migration in `migrations/`; a test compares the two."""

from sqlalchemy import (
    Boolean,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(referred_table_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
    }
)

vocabularies = Table(
    "vocabularies",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("latest", Integer, nullable=False),  # continues when a name is deleted and created again
    Column("is_deleted", Boolean, nullable=False),
)
vocabulary_versions = Table(
    "vocabulary_versions",
    metadata,
    Column("name", String(64), ForeignKey("vocabularies.name"), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("document", Text, nullable=False),  # JSON of labels, templates, rules, metadata
    Column("num_labels", Integer, nullable=False),
    Column("author", String(200), nullable=False),
    Column("note", Text, nullable=False),
    Column("created_at", String(40), nullable=False),  # ISO 8601, UTC
)
clips = Table(
    "clips",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("num_bytes", Integer, nullable=False),
    Column("body", LargeBinary, nullable=False),  # the file as uploaded
)
vocabulary_clips = Table(
    "vocabulary_clips",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("sha256", String(64), ForeignKey("clips.sha256"), primary_key=True, index=True),
    ForeignKeyConstraint(
        ["name", "version"], ["vocabulary_versions.name", "vocabulary_versions.version"], ondelete="CASCADE"
    ),
)
model_versions = Table(
    "model_versions",
    metadata,
    Column("configured", String(200), primary_key=True),  # value of SERVE_MODEL that the row belongs to
    Column("name", String(200), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("previous", Integer),
)
model_aliases = Table(
    "model_aliases",
    metadata,
    Column("configured", String(200), primary_key=True),
    Column("alias", String(200), primary_key=True),
    Column("name", String(200), nullable=False),
    Column("previous", String(200)),
)
