"""Settings of the server: one object, prefix `SERVE_`, nested groups by `__` (`SERVE_BATCH__MAX_VIEWS=16`).

The command builds the object once and passes it to `create_app`; nothing reads the environment afterwards. Each field
has bounds and a one-line description; a test compares docs/settings.md with this class.
"""

import base64
import binascii
import tempfile
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from serve.auth_settings import AuthSettings, OidcSettings
from serve.extras import require_extra
from serve.http_settings import HttpSettings
from serve.repository import default_repository
from serve.video.limits import DecodeSettings

EngineChoice = Literal[
    "auto", "openvino-bf16", "openvino-f32", "onnxruntime-cpu", "onnxruntime-cuda", "onnxruntime-tensorrt", "triton"
]


def is_webhook_secret(text: str) -> bool:
    """Return whether a text is a secret of Standard Webhooks."""
    try:
        key = base64.b64decode(text.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError):
        return False
    return text.startswith("whsec_") and 24 <= len(key) <= 64


class BatchSettings(BaseModel):
    """Micro-batching of concurrent requests."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_views: int = Field(8, ge=1, le=64, description="Largest number of views in one batch of the video graph.")
    max_delay_ms: float = Field(
        0.0,
        ge=0.0,
        le=1000.0,
        description="Wait for more views before a batch is run; batches also form while the graph is busy.",
    )
    max_queued_views: int = Field(
        256, ge=1, le=65536, description="Largest number of waiting views; beyond it, requests get 503."
    )
    max_text_rows: int = Field(
        64, ge=1, le=4096, description="Largest number of prompts in one batch of the text graph."
    )
    max_head_classes: int = Field(
        1024, ge=1, le=65536, description="Largest number of classes per run of X-CLIP's prompt head."
    )


class LimitSettings(BaseModel):
    """Limits of one request."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_upload_bytes: int = Field(
        512 * 2**20, ge=1, description="Largest upload in bytes; a larger one is rejected with 413 while it arrives."
    )
    max_field_bytes: int = Field(
        2 * 2**20, ge=1024, description="Largest total size in bytes of the form fields other than the video."
    )
    max_candidate_labels: int = Field(1000, ge=1, le=100_000, description="Largest number of labels in a request.")
    max_templates: int = Field(64, ge=1, le=1000, description="Largest number of templates in a request.")
    max_label_chars: int = Field(500, ge=1, le=10_000, description="Largest number of characters in a label.")
    max_num_clips: int = Field(10, ge=1, le=10, description="Largest value of num_clips.")
    max_in_flight: int = Field(
        64,
        ge=1,
        le=10_000,
        description="Largest number of requests that compute or wait for it after their upload; beyond it, requests "
        "get 503, if possible before the upload is read. A client may have as many as remain free.",
    )
    request_deadline_seconds: float = Field(
        60.0, gt=0, le=3600, description="Time limit of a request; beyond it, the response is 504."
    )
    bank_cache_bytes: int = Field(256 * 2**20, ge=2**20, description="Memory for cached text features of prompts.")
    kept_text_bytes: int = Field(
        1024 * 2**20,
        ge=2**20,
        description="Disk space for cached text features of prompts, per model version and runtime.",
    )
    kept_clip_bytes: int = Field(
        1024 * 2**20,
        ge=2**20,
        description="Disk space for cached features of example clips, per model version and runtime.",
    )


class BodySettings(BaseModel):
    """Limits of the bodies of all requests in progress."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_uploads: int = Field(
        256,
        ge=1,
        le=100_000,
        description="Largest number of uploads in progress; beyond it, requests get 503. A client may have as many as "
        "remain free.",
    )
    memory_bytes: int = Field(
        256 * 2**20,
        ge=2**20,
        description="Memory for bodies that are not uploads of files, of all requests in progress; beyond it, requests "
        "get 503. A client may have as much as remains free.",
    )
    grace_seconds: float = Field(
        10.0, gt=0, le=3600, description="Time for which a body may arrive below the minimum rate."
    )
    min_bytes_per_second: int = Field(
        1024, ge=1, description="Minimum rate of a body; below it for longer than grace_seconds, the response is 408."
    )


class VocabularySettings(BaseModel):
    """Limits and behaviour of editable vocabularies."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_labels: int = Field(100_000, ge=1, le=1_000_000, description="Largest number of labels in a vocabulary.")
    max_phrases_per_label: int = Field(
        32, ge=1, le=1000, description="Largest number of synonyms and negative phrases of a label."
    )
    max_bytes: int = Field(
        32 * 2**20, ge=1024, description="Largest request body in bytes with a vocabulary or a change."
    )
    keep_versions: int = Field(
        100, ge=1, le=10_000, description="Number of versions that are kept; older ones are deleted."
    )
    max_examples_per_label: int = Field(64, ge=0, le=1000, description="Largest number of example clips of a label.")
    max_examples: int = Field(1000, ge=0, le=10_000, description="Largest number of example clips of a vocabulary.")
    max_example_bytes: int = Field(
        32 * 2**20,
        ge=1024,
        le=512 * 2**20,
        description="Largest example clip in bytes; the clips are stored in the database.",
    )
    max_calibration_clips: int = Field(1000, ge=1, le=10_000, description="Largest number of clips of a calibration.")
    calibration_deadline_seconds: float = Field(
        600.0,
        gt=0,
        le=86_400,
        description="Time limit of a calibration or an upload of examples; beyond it, the response is 504.",
    )
    poll_seconds: float = Field(
        0.5, gt=0, le=60, description="Interval at which changes made through other server processes are detected."
    )


class FeedbackSettings(BaseModel):
    """Corrected clips that callers send; they are stored for training."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = Field(False, description="Store corrected clips that callers send; if false, they are rejected.")
    dir: Path | None = Field(
        None, description="Folder of the clips and their index; by default `feedback` in data_dir."
    )
    max_bytes: int = Field(
        10 * 2**30, ge=1, description="Largest total size of stored clips in bytes; beyond it, the response is 507."
    )
    max_clips: int = Field(
        10_000, ge=1, le=1_000_000, description="Largest number of stored clips; beyond it, the response is 507."
    )


class TimelineSettings(BaseModel):
    """Limits of a timeline, and the share of the server that timelines may use."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_concurrent: int = Field(
        2, ge=1, le=64, description="Largest number of concurrent timelines; beyond it, requests get 503."
    )
    max_upload_bytes: int = Field(
        4 * 2**30,
        ge=1,
        description="Largest video of a timeline in bytes; a larger one is rejected with 413 while it arrives.",
    )
    max_windows: int = Field(50_000, ge=1, le=1_000_000, description="Largest number of windows of a timeline.")
    deadline_seconds: float = Field(
        3600.0, gt=0, le=86_400, description="Time limit of a timeline; beyond it, the response is 504."
    )
    windows_per_run: int = Field(
        1,
        ge=1,
        le=64,
        description="Windows of a timeline per batch of the video graph; other requests wait for the batch.",
    )


class JobSettings(BaseModel):
    """Jobs: many or long inputs that are processed in the background."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_concurrent: int = Field(
        1,
        ge=0,
        le=64,
        description="Number of inputs processed concurrently; 0: only by other servers with the same database.",
    )
    dir: Path | None = Field(
        None,
        description="Folder of uploaded inputs; by default `jobs` in data_dir. Servers that share it share the work.",
    )
    folder_root: Path | None = Field(
        None, description="Folder in which jobs may use folders of the server; without it such jobs are rejected."
    )
    max_inputs: int = Field(10_000, ge=1, le=1_000_000, description="Largest number of inputs of a job.")
    max_upload_bytes: int = Field(
        16 * 2**30, ge=1, description="Largest total upload of a job in bytes; beyond it, the response is 413."
    )
    max_uploads: int = Field(
        8, ge=1, le=1000, description="Largest number of concurrent uploads of jobs; beyond it, requests get 503."
    )
    max_event_streams: int = Field(
        200, ge=1, le=10_000, description="Largest number of open streams of events; beyond it, requests get 503."
    )
    upload_deadline_seconds: float = Field(
        3600.0, gt=0, le=86_400, description="Time limit of the upload of a job; beyond it, the response is 504."
    )
    max_stored_bytes: int = Field(
        64 * 2**30,
        ge=1,
        description="Largest total size of the uploads of unfinished jobs; beyond it, the response is 507.",
    )
    max_jobs: int = Field(
        1000, ge=1, le=1_000_000, description="Largest number of unfinished jobs; beyond it, the response is 507."
    )
    max_attempts: int = Field(
        3,
        ge=1,
        le=100,
        description="Largest number of attempts to process an input if the server stops or is unavailable.",
    )
    lease_seconds: float = Field(
        30.0, ge=1, le=3600, description="Time after which another server takes over an input of a stopped server."
    )
    input_deadline_seconds: float = Field(
        21_600.0, gt=0, le=86_400, description="Time limit of one attempt to process an input."
    )
    deadline_seconds: float = Field(
        86_400.0, gt=0, le=31_536_000, description="Time after which an unfinished job expires; its results are kept."
    )
    keep_seconds: float = Field(
        604_800.0, gt=0, le=31_536_000, description="Time after which a finished job is deleted with its results."
    )
    webhook_secret: SecretStr = Field(
        SecretStr(""),
        description="Secret `whsec_...` (base64) that signs webhooks; without it, jobs with a webhook are rejected.",
    )

    @field_validator("webhook_secret")
    @classmethod
    def _check_secret(cls, secret: SecretStr) -> SecretStr:
        text = secret.get_secret_value()
        if text and not is_webhook_secret(text):
            raise ValueError("must be `whsec_` and the base64 encoding of 24 to 64 random bytes")
        return secret


class OutgoingSettings(BaseModel):
    """Outgoing connections to URLs of callers: inputs and webhooks of jobs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input_urls: bool = Field(False, description="Allow inputs of jobs to be URLs, which the server downloads.")
    schemes: tuple[Literal["https", "http"], ...] = Field(
        ("https",), min_length=1, description="Allowed schemes, as a JSON list."
    )
    ports: tuple[Annotated[int, Field(ge=1, le=65535)], ...] = Field(
        (443,), min_length=1, description="Allowed ports, as a JSON list."
    )
    max_redirects: int = Field(
        3, ge=0, le=20, description="Largest number of redirects of an input; webhooks follow none."
    )
    max_bytes: int = Field(4 * 2**30, ge=1, description="Largest download of an input in bytes.")
    timeout_seconds: float = Field(600.0, gt=0, le=86_400, description="Time limit of the download of an input.")
    webhook_timeout_seconds: float = Field(15.0, gt=0, le=300, description="Time limit of the response to a webhook.")
    allow_loopback: bool = Field(False, description="Allow addresses of this machine; only for tests.")


class VideoStoreSettings(BaseModel):
    """Videos whose features are stored at the request of callers, to be scored again and searched."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_bytes: int = Field(20 * 2**30, ge=1, description="Bytes of all stored features together; past it 507.")
    max_tags: int = Field(32, ge=0, le=1000, description="Tags of a stored video.")
    keep_seconds: int | None = Field(
        None, ge=1, description="How long videos without expires_in_seconds are kept; for ever where empty."
    )
    sweep_seconds: float = Field(60.0, gt=0, le=86_400, description="How often expired videos are deleted.")
    memory_bytes: int = Field(
        2 * 2**30,
        ge=2**20,
        description="Memory of each model for features that are searched; those beyond it are read from the store.",
    )


class TritonSettings(BaseModel):
    """A Triton server that runs the graphs, with engine `triton`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str = Field("127.0.0.1:8001", description="Host and port of the gRPC endpoint of the Triton server.")
    shared_memory: Literal["auto", "always", "never"] = Field(
        "auto", description="Send views through shared memory; `auto`: if the Triton server can open it."
    )
    shared_memory_bytes: int = Field(
        64 * 2**20,
        ge=2**16,
        description="Shared memory in bytes per loaded version; views that do not fit are sent in the message.",
    )
    config_name: str = Field(
        "", pattern=r"^[\w.-]*$", description="Value of --model-config-name of the Triton server, if it is set."
    )
    request_timeout_seconds: float = Field(60.0, gt=0, le=3600, description="Time limit of runs without a deadline.")
    load_timeout_seconds: float = Field(120.0, gt=0, le=3600, description="Time limit for loading a version.")


class TelemetrySettings(BaseModel):
    """Traces with OpenTelemetry; they need the extra `telemetry`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    traces_endpoint: str = Field(
        "",
        pattern=r"^(https?://\S+)?$",
        description="URL of a collector to which traces are sent with OTLP over HTTP, e.g. "
        "http://127.0.0.1:4318/v1/traces; empty: traces are off.",
    )
    sample_ratio: float = Field(
        1.0, ge=0, le=1, description="Share of traces that is recorded, unless the client's traceparent decides."
    )
    service_name: str = Field("actserve", min_length=1, max_length=100, description="Name of the service in traces.")


class ServeSettings(BaseSettings):
    """All settings of a server."""

    model_config = SettingsConfigDict(
        env_prefix="SERVE_", env_nested_delimiter="__", frozen=True, extra="forbid", populate_by_name=True
    )

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8080, ge=0, le=65535, description="Port to listen on; 0 chooses a free port.")
    model: str = Field("starter", description="Default model: NAME or NAME@VERSION (the latest version without one).")
    repository: Path = Field(
        default_factory=default_repository,
        description="Folder of models; by default `model_repository` in the current directory, else the bundled ones.",
    )
    engine: EngineChoice = Field(
        "auto", description="Runtime; `auto` chooses the fastest that passes the parity check."
    )
    threads: int = Field(0, ge=0, le=1024, description="Threads per graph on a CPU; 0: the runtime chooses.")
    cache_dir: Path = Field(
        Path("~/.cache/actserve"),
        description="Folder for compiled graphs, parity results and text features; safe to delete.",
    )
    upload_dir: Path = Field(
        Path(tempfile.gettempdir()), description="Folder in which the server creates a temporary folder for uploads."
    )
    data_dir: Path = Field(
        Path("~/.local/share/actserve"), description="Folder of the SQLite database and of feedback; back it up."
    )
    store_url: SecretStr = Field(
        SecretStr(""),
        description="Database of vocabularies and stored videos, as SQLAlchemy writes it; SQLite in data_dir if empty.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Lowest level that is logged.")
    log_format: Literal["text", "json"] = Field(
        "text", description="Log lines as text, or as one JSON object per line with request id, trace id and key name."
    )
    telemetry: TelemetrySettings = TelemetrySettings()
    batch: BatchSettings = BatchSettings()
    limits: LimitSettings = LimitSettings()
    bodies: BodySettings = BodySettings()
    decode: DecodeSettings = DecodeSettings()
    triton: TritonSettings = TritonSettings()
    vocabularies: VocabularySettings = VocabularySettings()
    feedback: FeedbackSettings = FeedbackSettings()
    timeline: TimelineSettings = TimelineSettings()
    http: HttpSettings = HttpSettings()
    jobs: JobSettings = JobSettings()
    outgoing: OutgoingSettings = OutgoingSettings()
    auth: AuthSettings = AuthSettings()
    oidc: OidcSettings = OidcSettings()
    videos: VideoStoreSettings = VideoStoreSettings()

    @model_validator(mode="after")
    def _check_access(self) -> Self:
        if self.auth.mode == "off" and self.oidc.issuer:
            raise ValueError("oidc.issuer has no effect with auth.mode=off")
        return self

    @model_validator(mode="after")
    def _check_body_memory(self) -> Self:
        largest = max(self.vocabularies.max_bytes, self.limits.max_field_bytes)
        if 2 * largest > self.bodies.memory_bytes:
            raise ValueError(
                f"bodies.memory_bytes must be at least {2 * largest}, twice the largest body, "
                f"got {self.bodies.memory_bytes}"
            )
        return self

    @property
    def jobs_folder(self) -> Path:
        """Folder of uploaded inputs of jobs."""
        return (self.jobs.dir or self.data_dir / "jobs").expanduser()

    @property
    def feedback_folder(self) -> Path:
        """Folder of feedback."""
        return (self.feedback.dir or self.data_dir / "feedback").expanduser()

    def require_extras(self) -> None:
        """Check that the optional dependencies of these settings are installed.

        Raises:
            MissingExtra: one is not.
        """
        if self.engine == "triton":
            require_extra("triton", needed_by="SERVE_ENGINE=triton")
        if self.store_url.get_secret_value().startswith("postgres"):
            require_extra("postgres", needed_by="a SERVE_STORE_URL of PostgreSQL")
        if self.oidc.issuer:
            require_extra("oidc", needed_by="SERVE_OIDC__ISSUER")
        if self.telemetry.traces_endpoint:
            require_extra("telemetry", needed_by="SERVE_TELEMETRY__TRACES_ENDPOINT")
