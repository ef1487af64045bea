"""Process an archive of videos in this process and write the results to an output folder, continuing earlier runs.

Each worker processes one video at a time in a decode process of its own; the views of all workers form the batches of
one engine. Outcomes are written in parts (`serve.batch.folder`); when the disk is slower than the workers, they wait.
"""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from serve.batch.features import CollectedVideo, FeatureCollector
from serve.batch.folder import OutputFolder, Part, lock_folder, open_output
from serve.batch.inputs import base_name, local_path, shown_name
from serve.batch.manifest import Format, RunSettings
from serve.batch.remote import download, is_url
from serve.batch.tables import CompletedInput
from serve.contract import ModelContract
from serve.errors import (
    DeadlineExceeded,
    EngineFailure,
    EngineUnavailable,
    FetchFailed,
    Overloaded,
    ServiceError,
    StoreUnavailable,
)
from serve.jobs.records import JobKind
from serve.jobs.runner import RunStopped, run_inputs
from serve.service import Service
from serve.settings import ServeSettings

MAX_ATTEMPTS = 3  # of an input after failures of this process rather than of the input
RETRY_SECONDS = 1.0  # before the second attempt; doubled each time
BUSY_SECONDS = 0.05  # pause while the queue of the engine or the memory for views is full
MAX_PART_BYTES = 64 * 2**20  # features and JSON of a part in memory
MAX_PART_ROWS = 50_000
MAX_PART_SECONDS = 60.0  # after which a part is written, so that a killed run loses little work


@dataclass(frozen=True, kw_only=True)
class BatchArguments:
    """What a batch does."""

    kind: JobKind
    names: list[str]  # of the inputs, see `serve.batch.inputs`
    options: dict[str, Any]
    out: Path
    formats: tuple[Format, ...]
    has_features: bool
    inputs_per_part: int
    workers: int
    retries_errors: bool


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Numbers of inputs of a batch."""

    total: int
    completed_before: int  # by earlier runs
    failed_before: int
    completed: int = 0  # by this run
    failed: int = 0
    num_rows: int = 0  # rows of the results table, of all runs
    num_parts: int = 0

    @property
    def done(self) -> int:
        """Number of inputs with a result or an error."""
        return self.completed_before + self.failed_before + self.completed + self.failed

    @property
    def has_failures(self) -> bool:
        """Whether an input of the batch has an error, from this run or an earlier one."""
        return self.failed + self.failed_before > 0

    def document(self) -> dict[str, int]:
        """Return the counts as JSON."""
        return asdict(self)


Report = Callable[[Counts, bool], None]  # called with the counts; the flag is true when a part was written


async def run_batch(arguments: BatchArguments, settings: ServeSettings, report: Report) -> Counts:
    """Process the inputs that have no outcome in the output folder yet, and return the counts.

    Raises:
        InvalidOption: an option or the folder cannot be used; nothing was done.
        ServiceError: the engine or the database failed; finished inputs are written, and another run continues.
        OSError: the output cannot be written; another run continues.
    """
    collector = FeatureCollector()
    with lock_folder(arguments.out):
        service = Service(settings, video_sink=collector)
        try:
            await service.start()
            output = open_output(arguments.out, await _pin_settings(service, arguments))
            return await _BatchRun(arguments, service, collector, output, report).run()
        finally:
            await service.close()


async def _pin_settings(service: Service, arguments: BatchArguments) -> RunSettings:
    """Return the settings with the versions of the model and the vocabulary that are in use now."""
    options = await service.input_processor.pin_options(arguments.kind, arguments.options)
    with service.registry.use(options.get("model")) as runtime:
        options["model"] = runtime.reference
        vocabulary = options.get("vocabulary")
        resolved = None if vocabulary is None else await service.vocabularies.catalogue.resolve(vocabulary)
        return RunSettings(
            kind=arguments.kind,
            options=options,
            model=runtime.reference,
            model_digest=_model_digest(runtime.contract),
            features_digest=runtime.features_digest,
            engine=runtime.engine.name,
            vocabulary_digest=None if resolved is None else resolved.digest,
            formats=arguments.formats,
            features=arguments.has_features,
        )


def _model_digest(contract: ModelContract) -> str:
    """Return a digest of the files of a version and of its rules, i.e. of everything that changes results."""
    rules = (contract.sampling, contract.preprocess, contract.text, contract.scoring)
    return hashlib.sha256(repr((sorted(contract.file_hashes().items()), rules)).encode()).hexdigest()[:32]


class _BatchRun:
    """The state of one run."""

    def __init__(
        self,
        arguments: BatchArguments,
        service: Service,
        collector: FeatureCollector,
        output: OutputFolder,
        report: Report,
    ) -> None:
        self._arguments, self._service, self._collector = arguments, service, collector
        self._output, self._report = output, report
        self._options = {**output.settings.options, **({"store": True} if arguments.has_features else {})}
        self._part = Part()
        self._part_bytes = self._part_rows = 0
        self._part_started_at = time.monotonic()

    async def run(self) -> Counts:
        """Process the missing inputs."""
        arguments, output = self._arguments, self._output
        if arguments.retries_errors:
            await asyncio.to_thread(output.drop_errors)
        indices = await asyncio.to_thread(output.register, arguments.names)
        completed, failed = output.completed, output.failed
        requested = set(indices.values())
        self._counts = Counts(
            total=len(indices),
            completed_before=len(requested & completed),
            failed_before=len(requested & failed),
        )
        missing = [(index, name) for name, index in indices.items() if index not in completed | failed]
        self._update_counts(is_part_written=False)
        outcomes = run_inputs(missing, self._process, workers=arguments.workers)
        try:
            async with aclosing(outcomes):
                async for outcome in outcomes:
                    index, name = outcome.item
                    if outcome.problem is not None:
                        self._part.failed.append((index, shown_name(name), outcome.problem))
                        self._counts = replace(self._counts, failed=self._counts.failed + 1)
                    else:
                        assert outcome.result is not None, "an outcome has a result or a problem"
                        self._add(outcome.result)
                        self._counts = replace(self._counts, completed=self._counts.completed + 1)
                    if self._is_part_full():
                        await self._write_in_thread()
                    self._update_counts(is_part_written=not len(self._part))
        except RunStopped as error:
            assert error.__cause__ is not None, "a run is stopped by another error"
            raise error.__cause__ from None
        finally:
            self._write_part()  # also after an error or Ctrl-C: finished inputs are not processed again
        self._update_counts(is_part_written=True)
        return self._counts

    def _add(self, item: CompletedInput) -> None:
        self._part.completed.append(item)
        self._part_rows += item.num_rows
        self._part_bytes += 0 if item.collected is None else item.collected.num_bytes

    def _is_part_full(self) -> bool:
        return (
            len(self._part) >= self._arguments.inputs_per_part
            or self._part_rows >= MAX_PART_ROWS
            or self._part_bytes >= MAX_PART_BYTES
            or time.monotonic() - self._part_started_at >= MAX_PART_SECONDS
        )

    async def _write_in_thread(self) -> None:
        """Write the part while workers continue; if the run is cancelled meanwhile, wait until it is written."""
        writing = asyncio.ensure_future(asyncio.to_thread(self._write_part))
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            await writing
            raise

    def _write_part(self) -> None:
        part, self._part = self._part, Part()
        self._part_bytes = self._part_rows = 0
        self._part_started_at = time.monotonic()
        if len(part):
            self._output.write(part)

    def _update_counts(self, *, is_part_written: bool) -> None:
        output = self._output
        self._counts = replace(self._counts, num_rows=output.num_rows, num_parts=output.num_parts)
        self._report(self._counts, is_part_written)

    async def _process(self, item: tuple[int, str]) -> CompletedInput:
        """Process an input; repeat it after a failure of the engine or a decode process.

        Raises:
            RunStopped: the engine or the database cannot be used any more, so other inputs would fail as well.
        """
        index, name = item
        limit = self._service.settings.jobs.input_deadline_seconds
        deadline = asyncio.get_running_loop().time() + limit
        attempt = 1
        async with self._local_file(name) as path:
            while True:
                try:
                    async with asyncio.timeout_at(deadline):
                        result, collected = await self._run_once(path, base_name(name), deadline)
                    return CompletedInput(index=index, name=shown_name(name), result=result, collected=collected)
                except TimeoutError as error:
                    raise DeadlineExceeded(
                        f"the input was not processed within {limit:g} s", limit_seconds=limit
                    ) from error
                except Overloaded:
                    await asyncio.sleep(BUSY_SECONDS)
                except (DeadlineExceeded, EngineFailure):
                    raise
                except StoreUnavailable as error:
                    raise RunStopped from error
                except ServiceError:
                    if attempt == MAX_ATTEMPTS:
                        if (reason := self._service.not_ready_reason) is not None:
                            raise RunStopped from EngineUnavailable(reason)
                        raise
                    await asyncio.sleep(RETRY_SECONDS * 2 ** (attempt - 1))
                    attempt += 1

    async def _run_once(self, path: Path, name: str, deadline: float) -> tuple[dict[str, Any], CollectedVideo | None]:
        kind = self._arguments.kind
        result = await self._service.input_processor.run(kind, path, self._options, name=name, deadline=deadline)
        collected = None
        if self._arguments.has_features:
            collected = self._collector.take(result["video_id"])
            result["video_id"] = None  # the video is not in a store
            del result["timing_ms"]["store"]
        return result, collected

    @asynccontextmanager
    async def _local_file(self, name: str) -> AsyncIterator[Path]:
        """Yield the path of an input; a URL is downloaded to a temporary file.

        Raises:
            FetchFailed: there is no such file, or it cannot be read.
        """
        if not is_url(name):
            path = local_path(name)
            await asyncio.to_thread(_check_readable, path)
            yield path
            return
        target = self._service.uploads.new()
        limits = self._service.settings.outgoing
        try:
            await asyncio.to_thread(download, name, target, max_bytes=limits.max_bytes, seconds=limits.timeout_seconds)
            yield target
        finally:
            await asyncio.to_thread(target.unlink, missing_ok=True)


def _check_readable(path: Path) -> None:
    try:
        if not path.is_file():
            raise FetchFailed("there is no such file" if not path.exists() else "the path is not a regular file")
        with path.open("rb"):
            pass
    except (OSError, ValueError) as error:  # ValueError: a NUL character
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise FetchFailed(f"the file cannot be read: {reason}") from error
