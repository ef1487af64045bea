"""Tables of the database. Each change needs a migration in `migrations/`; a test compares the two schemas."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
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
    Column("latest", Integer, nullable=False),  # not reset if the name is deleted and created again
    Column("is_deleted", Boolean, nullable=False),
)
vocabulary_versions = Table(
    "vocabulary_versions",
    metadata,
    Column("name", String(64), ForeignKey("vocabularies.name"), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("document", Text, nullable=False),  # JSON, see `Vocabulary.content`
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
    Column("configured", String(200), primary_key=True),  # the value of SERVE_MODEL for which the row was written
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
# Times of jobs are in seconds since 1970 by the database's clock, which all server processes share.
jobs = Table(
    "jobs",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("status", String(16), nullable=False, index=True),
    Column("options", Text, nullable=False),  # JSON
    Column("folder", Text),  # JSON: folder on the server whose files are listed when the job is validated
    Column("storage", String(64)),  # id of the upload folder with the inputs; null if every process can access them
    Column("webhook_url", Text),
    Column("idempotency_key", String(255)),
    Column("content_hash", String(64)),  # hash of the request that has the idempotency key
    Column("problem", Text),  # JSON; why the job failed
    Column("num_inputs", Integer, nullable=False),
    Column("num_completed", Integer, nullable=False),
    Column("num_failed", Integer, nullable=False),
    Column("num_events", Integer, nullable=False),
    Column("created_at", Double, nullable=False, index=True),
    Column("started_at", Double),
    Column("finished_at", Double),
    Column("deadline_at", Double, nullable=False),  # the job expires if it is not finished by then
    Column("served_at", Double, nullable=False),  # when an input was last taken; the job with the oldest time is next
    Column("lease_expires_at", Double),  # lease of the process that validates or finalizes the job
    Column("key_id", String(12), nullable=False, server_default=""),  # API key that owns the job; empty without keys
    Index("ix_jobs_key_id", "key_id", "idempotency_key", unique=True),
)
job_inputs = Table(
    "job_inputs",
    metadata,
    Column("job_id", String(40), ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),  # index of the input within its job, from 0
    Column("name", Text, nullable=False),  # given by the caller
    Column("source", String(8), nullable=False),  # upload, folder or url
    Column("place", Text, nullable=False),  # relative path of an upload or of a file in the server's folder, or a URL
    Column("num_bytes", BigInteger),  # only for uploads
    Column("state", String(12), nullable=False),
    Column("owner", String(64)),  # id of the worker that holds the lease
    Column("lease_expires_at", Double),
    Column("not_before", Double, nullable=False),  # earliest time of the next attempt
    Column("attempts", Integer, nullable=False),
    Column("progress", Double, nullable=False),  # 0 to 1
    Column("result", Text),  # JSON
    Column("problem", Text),  # JSON
    Column("finished_at", Double),
    Index("ix_job_inputs_state", "state", "job_id", "number"),
)
job_events = Table(
    "job_events",
    metadata,
    Column("job_id", String(40), ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("data", Text, nullable=False),  # JSON
    Column("created_at", Double, nullable=False),
)
webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("job_id", String(40), ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("url", Text, nullable=False),
    Column("body", Text, nullable=False),  # the same in every attempt
    Column("state", String(12), nullable=False),  # pending, delivered or failed
    Column("num_attempts", Integer, nullable=False),
    Column(
        "next_at", Double, nullable=False
    ),  # next attempt; during an attempt, the time after which another process may try
    Index("ix_webhook_deliveries_state", "state", "next_at"),
)
webhook_attempts = Table(
    "webhook_attempts",
    metadata,
    Column("job_id", String(40), ForeignKey("webhook_deliveries.job_id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("created_at", Double, nullable=False),
    Column("status", Integer),  # HTTP status of the response; null if there was none
    Column("fault", Text),  # why there was no response
    Column("duration_ms", Double, nullable=False),
)
api_keys = Table(
    "api_keys",
    metadata,
    Column("key_id", String(12), primary_key=True),
    Column("name", String(64), nullable=False, index=True),
    Column("scopes", String(64), nullable=False),  # separated by spaces
    Column("secret_sha256", String(64), nullable=False),
    Column("created_at", Double, nullable=False),  # times of keys are in seconds since 1970
    Column("expires_at", Double),
    Column("revoked_at", Double),
    Column("last_used_at", Double),
    Column("rate_requests", Integer),  # in `rate_seconds`; this and the other limits are null without a limit
    Column("rate_seconds", Integer),
    Column("max_concurrency", Integer),
    Column("daily_quota", Integer),
)
key_usage = Table(
    "key_usage",
    metadata,
    Column("key_id", String(12), primary_key=True),
    Column("ready_at", Double, nullable=False),  # when the whole rate is available again
    Column("day", Integer, nullable=False),  # days since the epoch, UTC
    Column("day_requests", Integer, nullable=False),
)
key_requests = Table(
    "key_requests",
    metadata,
    Column("request_id", String(32), primary_key=True),
    Column("key_id", String(12), nullable=False, index=True),
    Column("expires_at", Double, nullable=False),
)
stored_videos = Table(
    "stored_videos",
    metadata,
    Column("video_id", String(32), primary_key=True),
    Column("kind", String(16), nullable=False),  # clips or windows
    Column("model_name", String(200), nullable=False),
    Column("model_version", Integer, nullable=False),
    Column("model_digest", String(64), nullable=False),  # digest of the video graph that computed the features
    Column("key_id", String(12), index=True),  # API key that owns the video
    Column("num_windows", Integer, nullable=False),
    Column("num_bytes", BigInteger, nullable=False),  # size of the features
    Column("document", Text, nullable=False),  # JSON: `StoredVideoMetadata`
    Column("created_at", String(40), nullable=False, index=True),  # ISO 8601, UTC
    Column("expires_at", String(40), index=True),
    Column("is_complete", Boolean, nullable=False),
)
stored_video_tags = Table(
    "stored_video_tags",
    metadata,
    Column("video_id", String(32), ForeignKey("stored_videos.video_id", ondelete="CASCADE"), primary_key=True),
    Column("tag", String(64), primary_key=True, index=True),
)
stored_features = Table(
    "stored_features",
    metadata,
    Column("video_id", String(32), ForeignKey("stored_videos.video_id", ondelete="CASCADE"), primary_key=True),
    Column("part", Integer, primary_key=True),
    Column("num_windows", Integer, nullable=False),
    Column("windows", LargeBinary, nullable=False),
    Column("video_features", LargeBinary, nullable=False),
    Column("prototype_features", LargeBinary),
    Column("patch_features", LargeBinary),
)
stored_video_changes = Table(
    "stored_video_changes",
    metadata,
    Column("one", Integer, primary_key=True),  # a single row, 1
    Column("generation", BigInteger, nullable=False),  # increases when a video is stored or deleted
)
