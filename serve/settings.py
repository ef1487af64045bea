"""Settings of the server: one object, prefix `SERVE_`, nested groups by `__` (`SERVE_BATCH__MAX_VIEWS=16`).

Built once by the command line and handed to `create_app`; nothing reads the environment later. Each field has a unit,
a bound and one line of meaning; docs/settings.md is compared with this class by a test.
"""

import base64
import binascii
import re
import tempfile
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from serve.extras import require_extra
from serve.repository import default_repository
from serve.video.limits import DecodeSettings

EngineChoice = Literal[
    "auto", "openvino-bf16", "openvino-f32", "onnxruntime-cpu", "onnxruntime-cuda", "onnxruntime-tensorrt", "triton"
]

HOST_PATTERN = re.compile(r"\*|(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*|\[?[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*\]?")
ORIGIN_PATTERN = re.compile(r"https?://([A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")


def _items(value: str) -> list[str]:
    """Return the items of a list separated by commas."""
    return [item for item in (part.strip() for part in value.split(",")) if item]


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

    max_views: int = Field(8, ge=1, le=64, description="Views that go through the video graph in one run.")
    max_delay_ms: float = Field(
        0.0, ge=0.0, le=1000.0, description="Wait for company before a run; batches also form while the graph is busy."
    )
    max_queued_views: int = Field(256, ge=1, le=65536, description="Views that may wait; past it requests get 503.")
    max_text_rows: int = Field(64, ge=1, le=4096, description="Prompts that go through the text graph in one run.")
    max_head_classes: int = Field(1024, ge=1, le=65536, description="Classes per run of X-CLIP's prompt head.")


class LimitSettings(BaseModel):
    """What one request may ask for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_upload_bytes: int = Field(512 * 2**20, ge=1, description="Bytes of an upload; past it 413 while it arrives.")
    max_field_bytes: int = Field(2 * 2**20, ge=1024, description="Bytes of all fields beside the video together.")
    max_candidate_labels: int = Field(1000, ge=1, le=100_000, description="Labels that one request may have.")
    max_templates: int = Field(64, ge=1, le=1000, description="Templates that one request may have.")
    max_label_chars: int = Field(500, ge=1, le=10_000, description="Characters of one label.")
    max_num_clips: int = Field(10, ge=1, le=10, description="Largest num_clips.")
    max_in_flight: int = Field(
        64, ge=1, le=10_000, description="Requests worked on at once; past it 503 before the upload is read."
    )
    request_deadline_seconds: float = Field(
        60.0, gt=0, le=3600, description="A request ends by then, with 504 if need be."
    )
    bank_cache_bytes: int = Field(256 * 2**20, ge=2**20, description="Memory for text features of prompts.")
    kept_text_bytes: int = Field(
        1024 * 2**20, ge=2**20, description="Disk for text features of prompts, each model version and runtime."
    )
    kept_clip_bytes: int = Field(
        1024 * 2**20, ge=2**20, description="Disk for features of example clips, each model version and runtime."
    )


class VocabularySettings(BaseModel):
    """Vocabularies that change while the server runs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_labels: int = Field(100_000, ge=1, le=1_000_000, description="Labels of a vocabulary.")
    max_phrases_per_label: int = Field(
        32, ge=1, le=1000, description="Synonyms and negative phrases of a label together."
    )
    max_bytes: int = Field(32 * 2**20, ge=1024, description="Bytes of the body that brings a vocabulary or a change.")
    keep_versions: int = Field(100, ge=1, le=10_000, description="Versions that stay usable by name; older ones go.")
    max_examples_per_label: int = Field(64, ge=0, le=1000, description="Example clips of a label.")
    max_examples: int = Field(1000, ge=0, le=10_000, description="Example clips of a vocabulary.")
    max_example_bytes: int = Field(
        32 * 2**20, ge=1024, le=512 * 2**20, description="Bytes of an example clip; all of them lie in the store."
    )
    max_calibration_clips: int = Field(1000, ge=1, le=10_000, description="Clips of one calibration.")
    calibration_deadline_seconds: float = Field(
        600.0, gt=0, le=86_400, description="A calibration, or a set of examples, ends by then, with 504 if need be."
    )
    poll_seconds: float = Field(
        0.5, gt=0, le=60, description="How often changes made through other gateways are looked for."
    )


class FeedbackSettings(BaseModel):
    """Corrected clips that callers send, kept to train on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = Field(False, description="Keep corrected clips that callers send; without it they are refused.")
    dir: Path | None = Field(
        None, description="Folder of the clips and their index; `feedback` in data_dir where empty."
    )
    max_bytes: int = Field(10 * 2**30, ge=1, description="Bytes of all kept clips together; past it 507.")
    max_clips: int = Field(10_000, ge=1, le=1_000_000, description="Kept clips; past it 507.")


class TimelineSettings(BaseModel):
    """Limits of one timeline, and how much of the server timelines may use."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_concurrent: int = Field(2, ge=1, le=64, description="Timelines worked on at once; past it requests get 503.")
    max_upload_bytes: int = Field(
        4 * 2**30, ge=1, description="Bytes of the video of a timeline; past it 413 while it arrives."
    )
    max_windows: int = Field(50_000, ge=1, le=1_000_000, description="Windows of a timeline.")
    deadline_seconds: float = Field(
        3600.0, gt=0, le=86_400, description="A timeline ends by then, with 504 if need be."
    )
    windows_per_run: int = Field(
        1, ge=1, le=64, description="Windows that a timeline puts into one run of the video graph; others wait for it."
    )


class AuthSettings(BaseModel):
    """Who may use the server."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Literal["auto", "keys", "off"] = Field(
        "auto",
        description="keys: every request needs a key. off: none does. auto: as soon as there is a key, or on another "
        "address than loopback, where a server without keys does not start.",
    )


class HttpSettings(BaseModel):
    """Names under which the server is reached, pages that may use it, and proxies in front of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    allowed_hosts: str = Field(
        "",
        description="Names of this server in the `Host` header, separated by commas; `*.example.com` for all below, "
        "`*` for any. Empty: addresses, names without a dot and below `localhost`, which nobody can register.",
    )
    cors_origins: str = Field(
        "",
        description="Origins of pages on other hosts that may call the API, separated by commas, "
        "e.g. `https://app.example.com`.",
    )
    root_path: str = Field(
        "", pattern=r"^(/[\w.~-]+)*$", description="Path under which a proxy serves this server, e.g. `/actions`."
    )
    trusted_proxies: str = Field(
        "127.0.0.1",
        description="Addresses or networks of proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed, "
        "separated by commas.",
    )

    max_connections: int = Field(1000, ge=1, le=100_000, description="Open connections; past it 503.")
    max_connections_per_address: int = Field(
        256, ge=1, le=100_000, description="Open connections of one address that is no trusted proxy; past it 503."
    )
    max_header_bytes: int = Field(
        65_536, ge=1024, le=2**20, description="Bytes of the request line and headers; past it 400."
    )
    header_timeout_seconds: float = Field(
        15.0,
        gt=0,
        le=600,
        description="Headers are complete by then after the first byte, or after connecting, or 408.",
    )

    @field_validator("allowed_hosts")
    @classmethod
    def _are_hosts(cls, value: str) -> str:
        for name in _items(value):
            if HOST_PATTERN.fullmatch(name) is None:
                raise ValueError(f"{name!r} is not a host name without port")
        return value

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, value: str) -> str:
        for origin in _items(value):
            if ORIGIN_PATTERN.fullmatch(origin) is None:
                raise ValueError(
                    f"{origin!r} is not an origin such as https://app.example.com or http://localhost:3000"
                )
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, value: str) -> str:
        for network in _items(value):
            ip_network(network)  # raises ValueError, which names the item
        return value

    @property
    def hosts(self) -> tuple[str, ...]:
        """Return `allowed_hosts` in lower case, IPv6 addresses without brackets."""
        return tuple(name.lower().strip("[]") for name in _items(self.allowed_hosts))

    @property
    def proxies(self) -> tuple[str, ...]:
        """Return `trusted_proxies` as addresses and networks."""
        return tuple(_items(self.trusted_proxies))

    @property
    def origins(self) -> tuple[str, ...]:
        """Return `cors_origins` in lower case."""
        return tuple(origin.lower() for origin in _items(self.cors_origins))


class JobSettings(BaseModel):
    """Jobs: many inputs, or long ones, processed in the background."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_concurrent: int = Field(
        1, ge=0, le=64, description="Inputs of jobs worked on at once; 0 leaves them to other servers of the store."
    )
    dir: Path | None = Field(
        None,
        description="Folder of uploaded inputs; `jobs` in data_dir where empty. Servers that share it share the work.",
    )
    folder_root: Path | None = Field(
        None, description="Folder below which jobs may name folders of the server; without it they are refused."
    )
    max_inputs: int = Field(10_000, ge=1, le=1_000_000, description="Inputs of a job.")
    max_upload_bytes: int = Field(16 * 2**30, ge=1, description="Bytes of all uploads of a job; past it 413.")
    max_uploads: int = Field(8, ge=1, le=1000, description="Jobs received at once; past it requests get 503.")
    max_event_streams: int = Field(
        200, ge=1, le=10_000, description="Streams of events open at once; past it requests get 503."
    )
    upload_deadline_seconds: float = Field(
        3600.0, gt=0, le=86_400, description="A job is received by then, or answered with 504."
    )
    max_stored_bytes: int = Field(
        64 * 2**30, ge=1, description="Bytes of the uploads of all unfinished jobs; past it 507."
    )
    max_jobs: int = Field(1000, ge=1, le=1_000_000, description="Unfinished jobs; past it 507.")
    max_attempts: int = Field(
        3, ge=1, le=100, description="Attempts at an input, if the server stops or cannot answer meanwhile."
    )
    lease_seconds: float = Field(
        30.0, ge=1, le=3600, description="Time after which another server takes the input of one that stopped."
    )
    input_deadline_seconds: float = Field(21_600.0, gt=0, le=86_400, description="Time for one attempt at an input.")
    deadline_seconds: float = Field(
        86_400.0, gt=0, le=31_536_000, description="A job that is not finished by then expires; its results stay."
    )
    keep_seconds: float = Field(
        604_800.0, gt=0, le=31_536_000, description="Time until a finished job is deleted with its results."
    )
    webhook_secret: SecretStr = Field(
        SecretStr(""),
        description="Secret `whsec_...` (base64) that signs webhooks; where empty, jobs with a webhook are refused.",
    )

    @field_validator("webhook_secret")
    @classmethod
    def _check_secret(cls, secret: SecretStr) -> SecretStr:
        text = secret.get_secret_value()
        if text and not is_webhook_secret(text):
            raise ValueError("has to be `whsec_` and the base64 of 24 to 64 random bytes")
        return secret


class OutgoingSettings(BaseModel):
    """Addresses that callers choose and the server connects to: inputs and webhooks of jobs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input_urls: bool = Field(False, description="Fetch inputs of jobs from URLs; without it they are refused.")
    schemes: tuple[Literal["https", "http"], ...] = Field(("https",), description="Allowed schemes, as a JSON list.")
    ports: tuple[Annotated[int, Field(ge=1, le=65535)], ...] = Field(
        (443,), description="Allowed ports, as a JSON list."
    )
    max_redirects: int = Field(3, ge=0, le=20, description="Redirects of an input; webhooks follow none.")
    max_bytes: int = Field(4 * 2**30, ge=1, description="Bytes of a fetched input.")
    timeout_seconds: float = Field(600.0, gt=0, le=86_400, description="Time to fetch an input.")
    webhook_timeout_seconds: float = Field(15.0, gt=0, le=300, description="Time for the answer to a webhook.")
    allow_loopback: bool = Field(False, description="Allow addresses of this machine; for tests alone.")


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

    url: str = Field("127.0.0.1:8001", description="Host and port of the server's gRPC.")
    shared_memory: Literal["auto", "always", "never"] = Field(
        "auto", description="Views through shared memory; auto: where the server can open ours."
    )
    shared_memory_bytes: int = Field(
        64 * 2**20, ge=2**16, description="Shared memory of a loaded version; views beyond it go in the message."
    )
    config_name: str = Field(
        "", pattern=r"^[\w.-]*$", description="What the server was given as --model-config-name, if anything."
    )
    request_timeout_seconds: float = Field(
        60.0, gt=0, le=3600, description="A run without a deadline of its own ends by then."
    )
    load_timeout_seconds: float = Field(120.0, gt=0, le=3600, description="A version is ready by then, or refused.")


class ServeSettings(BaseSettings):
    """Everything an operator may choose."""

    model_config = SettingsConfigDict(
        env_prefix="SERVE_", env_nested_delimiter="__", frozen=True, extra="forbid", populate_by_name=True
    )

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8080, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    model: str = Field("starter", description="Default model: NAME or NAME@VERSION (the latest version without one).")
    repository: Path = Field(
        default_factory=default_repository,
        description="Folder of the models; `model_repository` here where there is one, else the bundled models.",
    )
    engine: EngineChoice = Field("auto", description="Runtime; auto takes the fastest that passes the parity check.")
    threads: int = Field(0, ge=0, le=1024, description="Threads of a graph on a CPU; 0 lets the runtime choose.")
    cache_dir: Path = Field(
        Path("~/.cache/actserve"),
        description="Folder for compiled graphs, parity results and text features; safe to delete.",
    )
    upload_dir: Path = Field(
        Path(tempfile.gettempdir()), description="Folder in which each server creates a folder for current uploads."
    )
    data_dir: Path = Field(
        Path("~/.local/share/actserve"), description="Folder of the database, unless store_url names another; keep it."
    )
    store_url: SecretStr = Field(
        SecretStr(""),
        description="Database of vocabularies and stored videos, as SQLAlchemy writes it; SQLite in data_dir if empty.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged.")
    batch: BatchSettings = BatchSettings()
    limits: LimitSettings = LimitSettings()
    decode: DecodeSettings = DecodeSettings()
    triton: TritonSettings = TritonSettings()
    vocabularies: VocabularySettings = VocabularySettings()
    feedback: FeedbackSettings = FeedbackSettings()
    timeline: TimelineSettings = TimelineSettings()
    http: HttpSettings = HttpSettings()
    jobs: JobSettings = JobSettings()
    outgoing: OutgoingSettings = OutgoingSettings()
    auth: AuthSettings = AuthSettings()
    videos: VideoStoreSettings = VideoStoreSettings()

    def require_extras(self) -> None:
        """Make sure that the optional dependencies of these settings are installed.

        Raises:
            MissingExtra: one is not.
        """
        if self.engine == "triton":
            require_extra("triton", needed_by="SERVE_ENGINE=triton")
        if self.store_url.get_secret_value().startswith("postgres"):
            require_extra("postgres", needed_by="a SERVE_STORE_URL of PostgreSQL")
