"""The input of an inference request: a video file, views or texts."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request

from serve.arrays import UInt8Array
from serve.errors import InvalidOption, UploadTooLarge
from serve.inference_protocol import tensors
from serve.inference_protocol.bodies import BodyReader, receive_file, store_file
from serve.inference_protocol.messages import RequestInput
from serve.inference_protocol.models import TEXT, VIDEO
from serve.inference_protocol.tensors import LENGTH
from serve.settings import LimitSettings
from serve.upload_folder import UploadFolder

MAX_CROPS = 3  # of a clip

Input = Path | UInt8Array | tuple[str, ...]  # video file, views [V, T, 3, S, S], texts


@dataclass(frozen=True, kw_only=True)
class InputReceiver:
    """Receives the input of one request, whose specification has been checked."""

    request: Request
    reader: BodyReader
    folder: UploadFolder
    limits: LimitSettings

    @asynccontextmanager
    async def receive(self, found: RequestInput) -> AsyncIterator[Input]:
        """Receive an input; the file of a video is deleted at the end of the block.

        Raises:
            InvalidOption: its data does not match its shape, or the body has other data.
            UploadTooLarge: it exceeds a limit of the server.
        """
        if found.name == VIDEO:
            async with self._receive_video(found) as path:
                yield path
        elif found.name == TEXT:
            yield await self._receive_texts(found)
        else:
            yield await self._receive_views(found)

    @asynccontextmanager
    async def _receive_video(self, found: RequestInput) -> AsyncIterator[Path]:
        size = tensors.binary_size(found)
        if size is None:
            (video,) = await asyncio.to_thread(tensors.bytes_from_base64, found)
            _check_size(len(video), self.limits.max_upload_bytes)
            await self.reader.finish()
            async with store_file(self.request, self.folder, video) as path:
                yield path
            return
        _check_size(size - LENGTH.size, self.limits.max_upload_bytes)
        subject = f"input `{found.name}`"
        length = LENGTH.unpack(await self.reader.read(LENGTH.size, subject=subject))[0] if size >= LENGTH.size else -1
        if length != size - LENGTH.size:
            raise InvalidOption(
                f"{subject} must be one element: 4 bytes with its length, little endian, and its bytes; "
                f"`binary_data_size` is {size}, the length is {max(0, length)}"
            )
        async with receive_file(self.request, self.reader, self.folder, length, subject=subject) as path:
            yield path

    async def _receive_texts(self, found: RequestInput) -> tuple[str, ...]:
        if 0 in found.shape:
            raise InvalidOption(f"input `{found.name}` must have at least one text")
        size = tensors.binary_size(found)
        if size is None:
            await self.reader.finish()
            return tuple(tensors.texts_from_json(found))
        _check_size(size, self.limits.max_field_bytes)
        data = await self.reader.read(size, subject=f"input `{found.name}`")
        await self.reader.finish()
        return tuple(tensors.texts_from_binary(found, data))

    async def _receive_views(self, found: RequestInput) -> UInt8Array:
        num_views, limit = found.shape[0], self.limits.max_num_clips * MAX_CROPS
        if not 1 <= num_views <= limit:
            raise InvalidOption(f"input `{found.name}` must have 1 to {limit} views, got {num_views}")
        size = tensors.binary_size(found)
        if size is None:
            await self.reader.finish()
            return await asyncio.to_thread(tensors.uint8_from_json, found)
        tensors.check_uint8_size(found, size)
        data = await self.reader.read(size, subject=f"input `{found.name}`")
        await self.reader.finish()
        return tensors.uint8_from_binary(found, data)


def _check_size(num_bytes: int, limit: int) -> None:
    if num_bytes > limit:
        raise UploadTooLarge(f"the input has {num_bytes} bytes; {limit} are allowed", limit_bytes=limit)
