"""Whatever a library raises becomes an error of the file, never of the server, and the log keeps the cause."""

import dataclasses
import logging
import pickle
from pathlib import Path

import numpy as np
import pytest

from serve.errors import DecodeLimitExceeded, DecoderFault, UndecodableVideo, VideoTooShort
from serve.problems import STATUS
from serve.video.border import decoder_fault, translated
from serve.video.decode import frames_at
from serve.video.limits import DecodeSettings
from tests.serve.video.conftest import view_request


@pytest.mark.parametrize(
    "raised",
    [
        ValueError("31 is not a valid Type"), KeyError("codec"), IndexError("list index out of range"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), OverflowError("too large"),
        RuntimeError("graph"), SystemError("error return without exception set"), TypeError("None"),
        ZeroDivisionError("Fraction(1, 0)"), NotImplementedError("Conversion to numpy array with format `pal8`"),
    ],
    ids=lambda raised: type(raised).__name__,
)  # fmt: skip
def test_any_exception_of_a_library_is_a_fault_of_the_file(raised: Exception) -> None:
    with pytest.raises(DecoderFault, match=type(raised).__name__) as caught, translated():
        raise raised
    assert caught.value.__cause__ is raised
    assert STATUS[DecoderFault] == 422


def test_memory_that_runs_out_is_a_limit() -> None:
    with pytest.raises(DecodeLimitExceeded), translated():
        raise MemoryError


@pytest.mark.parametrize("raised", [AssertionError("ours"), OSError(28, "No space left"), EOFError("pipe closed")])
def test_mistakes_of_ours_and_the_callers_own_files_pass(raised: Exception) -> None:
    with pytest.raises(type(raised)) as caught, translated():
        raise raised
    assert caught.value is raised


def test_errors_of_this_project_pass() -> None:
    with pytest.raises(VideoTooShort), translated():
        raise VideoTooShort("none", num_frames=0)


def test_a_fault_crosses_processes_with_its_traceback() -> None:
    try:
        raise ValueError("31 is not a valid Type")
    except ValueError as error:
        fault = pickle.loads(pickle.dumps(decoder_fault(error)))
    assert type(fault) is DecoderFault and isinstance(fault, UndecodableVideo)
    assert fault.facts == {"reason": "ValueError"}
    assert "raise ValueError" in fault.__notes__[0]


async def test_a_mistake_in_a_child_is_logged_with_its_traceback_and_counted(
    good_clip: Path, start_pool: object, caplog: pytest.LogCaptureFixture
) -> None:
    pool = await start_pool()  # type: ignore[operator]
    request = view_request()
    preprocess = dataclasses.replace(request.preprocess, interpolation="unknown")  # unchecked: our mistake
    broken = dataclasses.replace(request, preprocess=preprocess)
    with caplog.at_level(logging.ERROR), pytest.raises(DecoderFault):
        await pool.views(good_clip, broken)
    assert "Traceback" in caplog.text and "preprocess.py" in caplog.text
    assert (pool.faults, pool.restarts) == (1, 0)
    assert (await pool.views(good_clip, request)).metadata.num_frames == 30


async def test_a_file_that_is_gone_is_no_fault_of_the_decoder(tmp_path: Path, start_pool: object) -> None:
    with pytest.raises(FileNotFoundError):
        frames_at(tmp_path / "gone.mp4", np.array([0]), settings=DecodeSettings())
