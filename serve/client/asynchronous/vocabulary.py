"""One vocabulary of the server, with optimistic concurrency.

Every change names the version that it is based on (`If-Match`). Changes of single labels do not depend on the other
labels, so when somebody else changed the vocabulary meanwhile (412), they are repeated on the newest version, at most
`MAX_CONFLICTS` times. Changes that replace content that the caller has seen (`replace`, `set`, `roll_back`,
`calibrate`, `delete`) are never repeated: the caller receives the `ProblemError` with status 412.
"""

import time
from asyncio import sleep
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any, Literal, TypeVar, Unpack

from serve.client.asynchronous.pages import AsyncPages
from serve.client.asynchronous.transport import AsyncTransport
from serve.client.calls import Call, Progress, Video, check_options, path_of, upload_call
from serve.client.problems import ProblemError
from serve.client.responses import parse_response
from serve.client.types import (
    CalibrateOptions,
    CalibrationDryRun,
    CalibrationResponse,
    ChangeResponse,
    ExampleList,
    ExamplesResponse,
    LabelInput,
    VersionDifference,
    VersionInfo,
    VersionPage,
    VocabularyChanges,
    VocabularyDocument,
    VocabularyFields,
)

MAX_CONFLICTS = 5
POLL_SECONDS = 0.2
CALIBRATION_SECONDS = 3700.0  # longer than the server allows a calibration to take
PATH = "/v1/vocabularies/{name}"
Document = TypeVar("Document")


class AsyncVocabulary:
    """A vocabulary; `etag` identifies its version of the last response, and changes are based on it."""

    def __init__(
        self, transport: AsyncTransport, name: str, *, author: str | None = None, wait_seconds: float = 10.0
    ) -> None:
        self.name = name
        self.etag: str | None = None
        self._transport = transport
        self._headers = {"Prefer": f"wait={wait_seconds:g}", **({"X-Author": author} if author else {})}

    async def get(self, version: int | None = None) -> VocabularyDocument:
        """Return the newest version, or a given one."""
        name = self.name if version is None else f"{self.name}@{version}"
        response = await self._transport.send(Call(method="GET", path=path_of(PATH, name=name)))
        document = parse_response(response, VocabularyDocument)
        if version is None:
            self.etag = response.headers["ETag"]
        return document

    async def labels(self) -> list[str]:
        """Return the names of the labels."""
        return [label["name"] for label in (await self.get())["labels"]]

    def versions(self, *, page_size: int = 100) -> AsyncPages[VersionInfo, VersionPage]:
        """Iterate over the versions, newest first."""
        call = self._call("GET", PATH + "/versions", query={"page_size": page_size})
        return AsyncPages(self._transport, call, VersionPage, "versions")

    async def diff(self, old: int, new: int) -> VersionDifference:
        """Return the differences between two versions."""
        call = self._call("GET", PATH + ":diff", query={"from": old, "to": new})
        return await self._transport.send_for(call, VersionDifference)

    async def export(self, file_format: Literal["json", "csv", "txt"] = "json") -> str:
        """Return the vocabulary as the text of a file, which `load` accepts."""
        call = self._call("GET", PATH + ":export", query={"format": file_format})
        return (await self._transport.send(call)).text

    async def create(self, labels: Sequence[str | LabelInput], **fields: Unpack[VocabularyFields]) -> ChangeResponse:
        """Create the vocabulary.

        Raises:
            ProblemError: 412: it exists already.
        """
        return await self._put({"If-None-Match": "*"}, labels, fields)

    async def replace(self, labels: Sequence[str | LabelInput], **fields: Unpack[VocabularyFields]) -> ChangeResponse:
        """Replace all labels and fields; labels with the same name keep their identity.

        Raises:
            ProblemError: 412: the vocabulary was changed after the version of `etag`.
        """
        return await self._put({"If-Match": await self._current_etag()}, labels, fields)

    async def load(
        self,
        content: str | Path,
        media_type: Literal["application/json", "text/csv", "text/plain"],
        *,
        split_names: bool = False,
    ) -> ChangeResponse:
        """Create or replace the vocabulary from a text or a file; `split_names` splits CamelCase and snake_case.

        Raises:
            ProblemError: 412: the vocabulary was changed meanwhile.
        """
        try:
            condition = {"If-Match": await self._current_etag()}
        except ProblemError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            condition = {"If-None-Match": "*"}
        body = content if isinstance(content, Path) else bytes(content, "utf-8")
        query = {"split_names": True} if split_names else {}
        headers = {**condition, "Content-Type": media_type}
        return await self._send(self._change("PUT", PATH, headers, content=body, query=query), ChangeResponse)

    async def add(self, *labels: str | LabelInput) -> ChangeResponse:
        """Add labels; repeated if the vocabulary was changed meanwhile."""
        return await self._patch({"add": list(labels)}, is_repeated=True)

    async def remove(self, *labels: str) -> ChangeResponse:
        """Remove labels, by name or label_id; repeated if the vocabulary was changed meanwhile."""
        return await self._patch({"remove": list(labels)}, is_repeated=True)

    async def rename(self, label: str, to: str) -> ChangeResponse:
        """Rename a label, which keeps its identity; repeated if the vocabulary was changed meanwhile."""
        return await self._patch({"rename": [{"label": label, "to": to}]}, is_repeated=True)

    async def update(self, *labels: LabelInput) -> ChangeResponse:
        """Replace the phrases of labels; `threshold` and `examples` only if given.

        Raises:
            ProblemError: 412: the vocabulary was changed after the version of `etag`.
        """
        return await self._patch({"update": list(labels)}, is_repeated=False)

    async def set(self, **fields: Unpack[VocabularyFields]) -> ChangeResponse:
        """Set fields of the vocabulary; `acceptance=None` removes the acceptance.

        Raises:
            ProblemError: 412: the vocabulary was changed after the version of `etag`.
        """
        check_options(fields, VocabularyFields)
        return await self._patch(fields, is_repeated=False)

    async def change(self, **changes: Unpack[VocabularyChanges]) -> ChangeResponse:
        """Apply several changes in one version: remove, rename, update, add, and fields.

        Raises:
            ProblemError: 412: the vocabulary was changed after the version of `etag`.
        """
        check_options(changes, VocabularyChanges)
        return await self._patch(changes, is_repeated=False)

    async def roll_back(self, version: int) -> ChangeResponse:
        """Create a new version that equals an old one.

        Raises:
            ProblemError: 412: the vocabulary was changed after the version of `etag`.
        """
        headers = {"If-Match": await self._current_etag()}
        call = self._change("POST", PATH + ":rollback", headers, json={"version": version})
        return await self._send(call, ChangeResponse)

    async def delete(self) -> None:
        """Delete the vocabulary with its history and example clips.

        Raises:
            ProblemError: 412: the vocabulary was changed after the version of `etag`.
        """
        await self._transport.send(self._call("DELETE", PATH, headers={"If-Match": await self._current_etag()}))
        self.etag = None

    async def examples(self, label: str) -> ExampleList:
        """Return the example clips of a label."""
        return await self._transport.send_for(await self._label_call("GET", label), ExampleList)

    async def add_examples(self, label: str, *clips: Video, progress: Progress | None = None) -> ExamplesResponse:
        """Add example clips to a label; repeated if the vocabulary was changed meanwhile."""
        path = await self._label_path(label)

        def make(etag: str) -> Call:
            files = [("video", clip) for clip in clips]
            headers = {"If-Match": etag, **self._headers}
            return upload_call(path, files, {}, progress=progress, headers=headers, timeout_seconds=CALIBRATION_SECONDS)

        return await self._repeat(make, ExamplesResponse)

    async def remove_examples(self, label: str, example_id: str | None = None) -> ChangeResponse:
        """Remove one example clip of a label, or all; repeated if the vocabulary was changed meanwhile."""
        path = await self._label_path(label)
        if example_id is not None:
            path += path_of("/{example_id}", example_id=example_id)
        return await self._repeat(
            lambda etag: Call(method="DELETE", path=path, headers={"If-Match": etag, **self._headers}), ChangeResponse
        )

    async def calibrate(
        self,
        clips: Sequence[Video],
        labels: Sequence[str | None],
        *,
        progress: Progress | None = None,
        **options: Unpack[CalibrateOptions],
    ) -> CalibrationResponse:
        """Fit "none of these" from clips and the label of each clip, which is None for none of the labels.

        Raises:
            ProblemError: 412: the vocabulary was changed after the version of `etag`.
        """
        call = await self._calibration(clips, labels, progress, {**check_options(options, CalibrateOptions)})
        return await self._send(call, CalibrationResponse)

    async def try_calibration(
        self,
        clips: Sequence[Video],
        labels: Sequence[str | None],
        *,
        progress: Progress | None = None,
        **options: Unpack[CalibrateOptions],
    ) -> CalibrationDryRun:
        """Fit like `calibrate` without storing the result."""
        checked = check_options(options, CalibrateOptions)
        call = await self._calibration(clips, labels, progress, {**checked, "dry_run": True})
        return await self._transport.send_for(call, CalibrationDryRun)

    async def wait_until_current(self, version: int, timeout_seconds: float = 300.0) -> VocabularyDocument:
        """Wait until the server uses a version, after a change whose response is not `is_current`.

        Raises:
            TimeoutError: it is not in use after `timeout_seconds`.
        """
        deadline = time.monotonic() + timeout_seconds
        while True:
            document = await self.get()
            if (document["current"] or 0) >= version:
                return document
            if time.monotonic() >= deadline:
                raise TimeoutError(f"{self.name}@{version} is not in use after {timeout_seconds} s")
            await sleep(POLL_SECONDS)

    async def _put(
        self, condition: Mapping[str, str], labels: Sequence[str | LabelInput], fields: Mapping[str, Any]
    ) -> ChangeResponse:
        document = {"labels": list(labels), **check_options(fields, VocabularyFields)}
        return await self._send(self._change("PUT", PATH, condition, json=document), ChangeResponse)

    async def _patch(self, changes: Mapping[str, Any], *, is_repeated: bool) -> ChangeResponse:
        def make(etag: str) -> Call:
            return self._change("PATCH", PATH, {"If-Match": etag}, json=dict(changes))

        if is_repeated:
            return await self._repeat(make, ChangeResponse)
        return await self._send(make(await self._current_etag()), ChangeResponse)

    async def _repeat(self, make: Callable[[str], Call], kind: type[Document]) -> Document:
        """Send the call that `make` returns for an ETag; after a conflict, again with the newest ETag."""
        for _ in range(MAX_CONFLICTS):
            try:
                return await self._send(make(await self._current_etag()), kind)
            except ProblemError as error:
                if error.status != HTTPStatus.PRECONDITION_FAILED:
                    raise
                self.etag = None
        return await self._send(make(await self._current_etag()), kind)

    async def _calibration(
        self, clips: Sequence[Video], labels: Sequence[str | None], progress: Progress | None, options: dict[str, Any]
    ) -> Call:
        return upload_call(
            path_of(PATH + ":calibrate", name=self.name),
            [("clip", clip) for clip in clips],
            {"labels": list(labels), **options},
            progress=progress,
            headers={"If-Match": await self._current_etag(), **self._headers},
            timeout_seconds=CALIBRATION_SECONDS,
        )

    async def _send(self, call: Call, kind: type[Document]) -> Document:
        """Send a change and keep the ETag of its response."""
        response = await self._transport.send(call)
        self.etag = response.headers.get("ETag")
        return parse_response(response, kind)

    async def _current_etag(self) -> str:
        """Return the ETag of the last response, or of the newest version if there was none."""
        if self.etag is None:
            await self.get()
        assert self.etag is not None, "GET returns an ETag"
        return self.etag

    async def _label_path(self, label: str) -> str:
        """Return the path of the examples of a label; a name with a slash cannot be part of a path."""
        key = label
        if "/" in label:
            labels = (await self.get())["labels"]
            key = next((item["label_id"] for item in labels if item["name"] == label), label)
        return path_of(PATH + "/labels/{label_id}/examples", name=self.name, label_id=key)

    async def _label_call(self, method: str, label: str) -> Call:
        return Call(method=method, path=await self._label_path(label))

    def _change(self, method: str, path: str, headers: Mapping[str, str], **others: Any) -> Call:
        return self._call(method, path, headers={**headers, **self._headers}, **others)

    def _call(self, method: str, path: str, **others: Any) -> Call:
        return Call(method=method, path=path_of(path, name=self.name), **others)
