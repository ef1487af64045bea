"""`POST /v1/embeddings`: texts and videos, as numbers and as base64, and what is refused."""

import base64
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

TEXTS = ["a person in red walking to the left", "a person in blue clapping"]


def texts(http: httpx.Client, **body: Any) -> httpx.Response:
    return http.post("/v1/embeddings", json={"input": TEXTS, **body})


def rows(response: httpx.Response) -> np.ndarray:
    assert response.status_code == 200, response.text
    return np.array([item["embedding"] for item in response.json()["data"]], np.float32)


def video(http: httpx.Client, path: Path, **fields: str) -> httpx.Response:
    with path.open("rb") as stream:
        return http.post("/v1/embeddings", files={"video": stream}, data=fields)


def test_texts_have_unit_length_and_keep_their_order(http: httpx.Client) -> None:
    response = texts(http)
    found = rows(response)
    assert found.shape == (2, 128)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)  # fp32 sums of 128 squares
    answer = response.json()
    assert [item["index"] for item in answer["data"]] == [0, 1]
    assert (answer["object"], answer["model"], answer["scored_by_cosine"]) == ("list", "demo@1", True)
    assert answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"] > 10
    np.testing.assert_array_equal(rows(texts(http, input=TEXTS[1])), found[1:])


def test_features_that_are_not_normalised_have_the_same_direction(http: httpx.Client) -> None:
    raw, unit = rows(texts(http, normalize=False)), rows(texts(http))
    lengths = np.linalg.norm(raw, axis=1, keepdims=True)
    assert (np.abs(lengths - 1) > 1e-3).all()
    np.testing.assert_allclose(raw / lengths, unit, atol=1e-6)


def test_base64_holds_the_same_numbers(http: httpx.Client) -> None:
    response = texts(http, encoding_format="base64")
    found = [np.frombuffer(base64.b64decode(item["embedding"]), "<f4") for item in response.json()["data"]]
    np.testing.assert_array_equal(np.stack(found), rows(texts(http)))


def test_a_dot_product_is_the_cosine_of_a_classification(http: httpx.Client, demo_clip: Path) -> None:
    similarity = rows(video(http, demo_clip)) @ rows(texts(http)).T  # [1, 2]
    with demo_clip.open("rb") as stream:
        fields = {"candidate_labels": TEXTS, "hypothesis_template": "{}"}
        answer = http.post("/v1/classify", files={"video": stream}, data=fields).json()
    cosines = {item["label"]: item["cosine"] for item in answer["results"]}
    np.testing.assert_allclose(similarity[0], [cosines[text] for text in TEXTS], atol=1e-5)  # fp32 sums of 128 products


def test_several_clips_are_averaged(http: httpx.Client, demo_clip: Path) -> None:
    found = rows(video(http, demo_clip, num_clips="3"))
    assert found.shape == (1, 128)
    np.testing.assert_allclose(np.linalg.norm(found), 1, rtol=1e-5)
    assert np.abs(found - rows(video(http, demo_clip))).max() > 1e-4


@pytest.mark.parametrize("body", [
    {"input": []}, {"input": [""]}, {"input": 3}, {"input": ["a"], "user": "me"},
    {"input": ["a"], "encoding_format": "hex"},
    {"input": ["a" * 501]}, {"input": ["a"] * 1001}, {"input": ["a"], "num_clips": 2}, {},
], ids=["none", "empty", "number", "unknown", "format", "long", "many", "of videos", "absent"])  # fmt: skip
def test_a_wrong_body_is_refused(http: httpx.Client, body: dict[str, Any]) -> None:
    response = http.post("/v1/embeddings", json=body)
    assert response.status_code == 422, response.text
    assert response.headers["content-type"] == "application/problem+json"


def test_options_of_texts_do_not_go_into_the_query(http: httpx.Client) -> None:
    assert http.post("/v1/embeddings?normalize=false", json={"input": "a"}).status_code == 422


def test_options_of_a_video_are_checked(http: httpx.Client, demo_clip: Path) -> None:
    assert video(http, demo_clip, input="a").status_code == 422
    assert video(http, demo_clip, num_clips="11").status_code == 422
    assert video(http, demo_clip, model="absent").status_code == 404


def test_another_content_type_is_refused(http: httpx.Client) -> None:
    response = http.post("/v1/embeddings", content=b"a", headers={"content-type": "text/plain"})
    assert response.status_code == 415
