"""Uploads arrive whole on disk, are counted on the way, and leave nothing behind."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Request
from httpx import ASGITransport, AsyncClient

from serve.admission.bodies import BodyAdmission
from serve.api import problems
from serve.api.middleware import RequestContextMiddleware
from serve.api.options import merge_options
from serve.routes.classify import OPTION_FIELDS
from serve.settings import BodySettings, LimitSettings
from serve.upload_folder import UploadFolder
from serve.uploads import receive_body, receive_upload

VIDEO = bytes(range(256)) * 400 + b"\r\n--not-the-boundary\r\n"


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[AsyncClient]:
    """An application that answers with what has arrived."""
    app = FastAPI()
    app.state.bodies = BodyAdmission(BodySettings())
    problems.install(app)
    app.add_middleware(RequestContextMiddleware)
    limits = LimitSettings(max_upload_bytes=200_000, max_field_bytes=2048)

    @app.post("/upload")
    async def upload(request: Request) -> dict[str, Any]:
        async with receive_upload(request, UploadFolder(tmp_path), limits, fields=OPTION_FIELDS) as arrived:
            content = await asyncio.to_thread(arrived.path.read_bytes)
            (file,) = arrived.files
            return {
                "is_same": content == VIDEO,
                "num_bytes": file.num_bytes,
                "fields": merge_options(arrived.fields, arrived.query),
            }

    @app.post("/uploads")
    async def uploads(request: Request) -> list[Any]:
        async with receive_upload(request, UploadFolder(tmp_path), limits, part="clip", max_files=3) as arrived:
            paths = [file.path for file in arrived.files]
            contents = [await asyncio.to_thread(path.read_bytes) for path in paths]
            assert all(path.parent == tmp_path for path in paths)
            names = [(file.filename, file.num_bytes) for file in arrived.files]
            return [[*item, content.decode()] for item, content in zip(names, contents, strict=True)]

    @app.post("/body")
    async def body(request: Request) -> int:
        return len(await receive_body(request, limit=1000))

    async with AsyncClient(transport=ASGITransport(app), base_url="http://test") as client:
        yield client
    assert not await asyncio.to_thread(lambda: list(tmp_path.iterdir()))


async def test_a_form_arrives_with_its_fields(client: AsyncClient) -> None:
    answer = (
        await client.post(
            "/upload",
            files={"video": ("../../etc/passwd", VIDEO)},
            data={"options": '{"top_k": 3}', "candidate_labels": ["x", "y, z"]},
            params={"model": "b"},
        )
    ).json()
    assert answer["is_same"]
    assert answer["num_bytes"] == len(VIDEO)
    assert answer["fields"] == {"top_k": 3, "model": "b", "candidate_labels": ["x", "y, z"]}


async def test_several_files_arrive_in_their_order_and_no_more_than_allowed(client: AsyncClient) -> None:
    files = [("clip", (name, name * 3)) for name in ("b.mp4", "../a.mp4", "b.mp4")]
    answer = (await client.post("/uploads", files=files)).json()
    assert [(Path(name).name, text) for name, _, text in answer] == [
        (Path(name).name, text) for _, (name, text) in files
    ]
    assert [size for _, size, _ in answer] == [15, 24, 15]
    refused = await client.post("/uploads", files=[*files, files[0]])
    assert (refused.status_code, refused.json()["limit"]) == (422, 3)
    large = [("clip", ("x", b"x" * 80_000))] * 3
    assert (await client.post("/uploads", files=large)).status_code == 413


async def test_a_raw_body_arrives_with_its_query(client: AsyncClient) -> None:
    query = {"top_k": "3", "candidate_labels": ["x", "y"]}
    answer = (await client.post("/upload", content=VIDEO, headers={"content-type": "video/mp4"}, params=query)).json()
    assert answer["is_same"]
    assert answer["fields"] == {"top_k": "3", "candidate_labels": ["x", "y"]}


@pytest.mark.parametrize(
    "kind", ["image/jpeg", "Image/PNG", "video/mp4; charset=binary", 'video/mp4; codecs="avc1, mp4a"']
)
async def test_raw_bodies_of_these_types_arrive(client: AsyncClient, kind: str) -> None:
    response = await client.post("/upload", content=VIDEO, headers={"content-type": kind})
    assert response.json()["is_same"]


@pytest.mark.parametrize("way", ["form", "raw", "form in chunks", "raw in chunks"])
async def test_an_upload_past_the_limit_is_stopped(client: AsyncClient, way: str) -> None:
    async def chunks(body: bytes) -> AsyncIterator[bytes]:
        for start in range(0, len(body), 4096):
            yield body[start : start + 4096]

    body, kind = b"x" * 300_000, "video/mp4"
    if way.startswith("form"):
        body = b'--b\r\nContent-Disposition: form-data; name="video"; filename="v"\r\n\r\n' + body + b"\r\n--b--\r\n"
        kind = "multipart/form-data; boundary=b"
    content = chunks(body) if way.endswith("chunks") else body
    response = await client.post("/upload", content=content, headers={"content-type": kind})
    assert response.status_code == 413
    assert response.json()["type"] == "/problems/upload-too-large"
    assert response.json()["limit_bytes"]


B = "multipart/form-data; boundary=b"
PART = b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
VIDEO_PART = PART % (b"video", b"v")


@pytest.mark.parametrize(
    ("kind", "body", "status", "words"),
    [
        ("text/plain", b"hello", 415, "multipart/form-data"),
        ("", b"hello", 415, "multipart/form-data"),
        ("multipart/form-data", b"hello", 422, "has no boundary"),
        (B, b"hello", 422, "no line '--b'"),
        (B, PART % (b"model", b"a\x00") + VIDEO_PART + b"--b--", 422, "NUL"),
        (B, PART % (b"_charset_", b"utf-7") + VIDEO_PART + b"--b--", 415, "utf-7"),
        (B, PART % (b'model"\r\nContent-Type: text/plain; charset="utf-7', b"a") + VIDEO_PART + b"--b--", 415, "utf-7"),
        (B, PART % (b"top_k", b"1") * 2 + VIDEO_PART + b"--b--", 422, "2 times"),
        (B, PART % (b"candidate_labels", b"") * 1000 + VIDEO_PART + b"--b--", 422, "2048"),
        (B, PART % (b"video", b"v"), 422, "incomplete"),
        (B, PART % (b"top_k", b"3") + b"--b--\r\n", 422, "no part named `video`"),
        (B, PART % (b"vidoe", b"v") + b"--b--\r\n", 422, "vidoe"),
        (B, PART % (b"video", b"v") * 2 + b"--b--\r\n", 422, "more than 1 part named"),
        (B, PART % (b"model", b"\xff") + VIDEO_PART + b"--b--", 422, "UTF-8"),
        (B, PART % (b"model", b"x" * 5000) + VIDEO_PART + b"--b--", 422, "2048"),
        (B, PART % (b"options", b"[]") + VIDEO_PART + b"--b--", 422, "object"),
    ],
    ids=["text", "no type", "no boundary", "no form", "NUL", "charset", "part charset", "repeated", "thousands", "cut", "no video", "unknown part", "two videos", "bytes", "long", "list"],  # noqa: E501
)  # fmt: skip
async def test_a_broken_request_is_reported_what_is_wrong(
    client: AsyncClient, kind: str, body: bytes, status: int, words: str
) -> None:
    response = await client.post("/upload", content=body, headers={"content-type": kind})
    assert response.status_code == status, response.text
    assert words in response.json()["detail"]


@pytest.mark.parametrize("path", ["/upload", "/body"])
@pytest.mark.parametrize("coding", ["gzip", "Br", "gzip, identity"])
async def test_a_coded_body_is_refused(client: AsyncClient, path: str, coding: str) -> None:
    headers = {"content-type": "video/mp4", "content-encoding": coding}
    response = await client.post(path, content=gzip.compress(VIDEO), headers=headers)
    assert response.status_code == 415
    assert coding.lower() in response.json()["detail"]
    plain = await client.post(path, content=b"x", headers={**headers, "content-encoding": "identity"})
    assert plain.status_code == 200
