"""Whatever a library raises becomes an error of the file, never of the server, and the log keeps the cause."""

import dataclasses
import errno
import logging
import pickle
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from serve.api.problems import STATUS
from serve.errors import DecodeLimitExceeded, DecoderFault, UndecodableVideo, VideoTooShort
from serve.video.decode import frames_at, open_video
from serve.video.decoder import Decoder
from serve.video.library_errors import decoder_fault, translate_library_errors
from serve.video.limits import DecodeSettings
from serve.video.streams import open_container
from tests.serve.video.conftest import view_request
from tests.synthetic_video import make_video


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
    with pytest.raises(DecoderFault, match=type(raised).__name__) as caught, translate_library_errors():
        raise raised
    assert caught.value.__cause__ is raised
    assert STATUS[DecoderFault] == 422


EXHAUSTIONS = [
    MemoryError(),
    av.error.MemoryError(errno.ENOMEM, "Cannot allocate memory"),
    av.error.BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"),
    RuntimeError("can't start new thread"),
    RuntimeError("std::bad_alloc"),
    ValueError("Failed to decode image: Out of memory"),
]


@pytest.mark.parametrize("raised", EXHAUSTIONS, ids=str)
def test_memory_and_threads_that_run_out_are_a_limit(raised: Exception) -> None:
    with pytest.raises(DecodeLimitExceeded), translate_library_errors():
        raise raised


@pytest.mark.parametrize("raised", EXHAUSTIONS, ids=str)
def test_an_error_whose_cause_is_exhaustion_is_a_limit(raised: Exception) -> None:
    with pytest.raises(DecodeLimitExceeded), translate_library_errors():
        raise UndecodableVideo("the file starts like MP4, but its header is corrupt") from raised


@pytest.mark.parametrize("raised", EXHAUSTIONS, ids=str)
def test_opening_and_pictures_pass_exhaustion_on(
    raised: Exception, tmp_path: Path, good_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise raised

    animation = tmp_path / "animation.webp"
    Image.new("RGB", (32, 32)).save(animation, save_all=True, append_images=[Image.new("RGB", (32, 32), "red")])
    with monkeypatch.context() as patched, pytest.raises(DecodeLimitExceeded):
        patched.setattr("serve.video.streams.av.open", fail)
        frames_at(good_clip, np.array([0]), settings=DecodeSettings())
    with monkeypatch.context() as patched, pytest.raises(DecodeLimitExceeded):
        patched.setattr("PIL.WebPImagePlugin.WebPImageFile.load", fail)
        frames_at(animation, np.array([0]), settings=DecodeSettings())


def test_a_lenient_decoder_does_not_conceal_that_memory_ran_out(
    good_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = open_video(good_clip, DecodeSettings())
    with open_container(good_clip) as container:
        stream = container.streams.video[0]
        decoder = Decoder(stream, video.index, DecodeSettings(), is_strict=False)  # type: ignore[union-attr]
        monkeypatch.setattr(
            "serve.video.decoder._capture_errors", lambda: nullcontext(["get_buffer() failed: cannot allocate"])
        )
        packet = next(container.demux(stream))
        with pytest.raises(DecodeLimitExceeded), translate_library_errors():
            decoder.decode(packet, 0)


@pytest.mark.parametrize("megabytes", [48, 64, 96, 128, 192, 256, 384])
def test_an_intact_video_is_never_called_corrupt_where_memory_is_short(megabytes: int, tmp_path: Path) -> None:
    blank = np.zeros((2048, 2048, 3), dtype=np.uint8)
    clip = make_video(tmp_path / "large.mp4", num_frames=8, width=2048, height=2048, frames=iter([blank] * 8))
    result = subprocess.run(
        [sys.executable, "-c", _DECODE_LIMITED, str(clip), str(megabytes * 2**20)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.strip() in ("8 0", "DecodeLimitExceeded")


_DECODE_LIMITED = """
import resource, sys
from pathlib import Path
import numpy as np
from serve.errors import ActserveError
from serve.video.child import read_mapped_bytes
from serve.video.decode import open_video, read_frames
from serve.video.limits import DecodeSettings
settings = DecodeSettings(threads=2, max_corrupt_share=1.0)
resource.setrlimit(resource.RLIMIT_AS, (read_mapped_bytes() + int(sys.argv[2]),) * 2)
try:
    video = open_video(Path(sys.argv[1]), settings)
    reading = read_frames(video, np.arange, transform=lambda frame: int(frame.max()), settings=settings)
    print(len(reading.values), reading.num_corrupt_frames)
except ActserveError as error:
    print(type(error).__name__)
"""


@pytest.mark.parametrize("raised", [AssertionError("ours"), OSError(28, "No space left"), EOFError("pipe closed")])
def test_mistakes_of_ours_and_the_callers_own_files_pass(raised: Exception) -> None:
    with pytest.raises(type(raised)) as caught, translate_library_errors():
        raise raised
    assert caught.value is raised


def test_errors_of_this_project_pass() -> None:
    with pytest.raises(VideoTooShort), translate_library_errors():
        raise VideoTooShort("none", num_frames=0)


def test_a_fault_crosses_processes_with_its_traceback() -> None:
    try:
        raise ValueError("31 is not a valid Type")
    except ValueError as error:
        fault = pickle.loads(pickle.dumps(decoder_fault(error)))
    assert type(fault) is DecoderFault and isinstance(fault, UndecodableVideo)
    assert fault.details == {"reason": "ValueError"}
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
