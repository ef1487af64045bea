"""Tables of the store. A change of them is a migration beside this file; a test compares the two."""

from sqlalchemy import Boolean, Column, ForeignKey, Integer, MetaData, String, Table, Text

metadata = MetaData(naming_convention={"pk": "pk_%(table_name)s", "fk": "fk_%(table_name)s_%(referred_table_name)s"})

vocabularies = Table(
    "vocabularies",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("latest", Integer, nullable=False),  # goes on counting when a name is deleted and made again
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
