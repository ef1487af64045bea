"""Time to decode 8 frames of the same packets in containers with and without an index: 10 minutes of 1920x1080 H.264.

    python -m tests.bench.container_bench [--minutes 10] [--folder DIR]

The containers alternate in each round. The promise: the same pixels as from MP4, in at most four times its time. The
controls: frames one earlier, and a decoder that decodes everything.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import av
import numpy as np

from serve.arrays import Int64Array, UInt8Array
from serve.video.decode import frames_at, open_video
from serve.video.limits import DecodeSettings
from serve.video.sampling import clip_indices
from tests.bench.promises import Promise, settle, spread
from tests.bench.turns import in_turns
from tests.shared_data import VIDEOS

CLIP = VIDEOS / "drink_water.avi"
CONTAINERS = {"mp4": "mp4", "mkv": "matroska", "ts": "mpegts", "m2ts": "mpegts", "vob": "vob", "flv": "flv"}
OPTIONS = {"m2ts": {"mpegts_m2ts_mode": "1"}}
FILTERS = {"mpegts": "h264_mp4toannexb", "vob": "h264_mp4toannexb"}
MAX_RATIO = 4.0
ROUNDS = 5
SETTINGS = DecodeSettings()


def encode_clip(path: Path) -> Path:
    """Encode the frames of `CLIP` once as H.264 with B-frames, in closed groups of pictures."""
    with av.open(str(CLIP)) as reading, av.open(str(path), "w") as writing:
        source = reading.streams.video[0]
        options = {"preset": "veryfast", "crf": "23", "g": "50", "bf": "2", "x264-params": "open-gop=0"}
        stream = writing.add_stream("libx264", rate=source.average_rate, options=options)
        stream.width, stream.height, stream.pix_fmt = source.width, source.height, "yuv420p"
        for frame in reading.decode(source):
            frame.pts = None
            writing.mux(stream.encode(frame))
        writing.mux(stream.encode())
    return path


def repeat_clip(clip: Path, path: Path, *, minutes: float) -> Path:
    """Write a file of a length in minutes that repeats the packets of the clip."""
    muxer = CONTAINERS[path.suffix[1:]]
    with (
        av.open(str(clip)) as reading,
        av.open(str(path), "w", format=muxer, options=OPTIONS.get(path.suffix[1:], {})) as writing,
    ):
        source = reading.streams.video[0]
        packets = [packet for packet in reading.demux(source) if packet.size]
        step = round(1 / source.average_rate / source.time_base)
        stream = writing.add_stream_from_template(source)
        bitstream_filter = av.BitStreamFilterContext(FILTERS[muxer], source, stream) if muxer in FILTERS else None
        num_repeats = round(60 * minutes * float(source.average_rate) / len(packets))
        for repeat in range(num_repeats):
            for original in packets:
                packet = av.Packet(bytes(original))
                shift = repeat * len(packets) * step
                packet.pts, packet.dts, packet.duration = original.pts + shift, original.dts + shift, step
                packet.time_base, packet.is_keyframe = source.time_base, original.is_keyframe
                for filtered in bitstream_filter.filter(packet) if bitstream_filter else [packet]:
                    filtered.stream = stream
                    writing.mux(filtered)
    return path


def sample(path: Path, *, offset: int = 0) -> UInt8Array:
    """Open a file and decode 8 frames [8, H, W, 3] at the segment centres, moved by a number of frames."""
    return frames_at(path, indices_of(path) + offset, settings=SETTINGS)


def indices_of(path: Path) -> Int64Array:
    """Return the frame indices [8] at the segment centres."""
    num_frames = open_video(path, SETTINGS).read_timeline().num_frames
    return clip_indices("centres", num_frames, num_segments=8, num_clips=1)[0]


def decode_everything(path: Path) -> UInt8Array:
    """Decode every frame and return those at the segment centres: a control."""
    wanted = set(indices_of(path).tolist())
    with av.open(str(path)) as container:
        frames = enumerate(container.decode(container.streams.video[0]))
        return np.stack([frame.to_ndarray(format="rgb24") for index, frame in frames if index in wanted])


def promises_of(times: Mapping[str, Sequence[float]], pixels: Mapping[str, bool]) -> list[Promise]:
    """Return the promises for times in milliseconds by container, and whether the pixels equal those from MP4."""
    mp4 = statistics.median(times["mp4"])
    return [
        promise
        for name in times
        if name != "mp4"
        for promise in (
            Promise(words=f"{name}: pixels equal those from mp4", found=float(pixels[name]), least=1),
            Promise(words=f"{name}: time over that of mp4", found=statistics.median(times[name]) / mp4, most=MAX_RATIO),
        )
    ]


def main() -> None:
    """Print the times and one JSON line; exit with 1 if a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--folder", type=Path, default=None, help="where the files are written")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        clip = encode_clip(folder / "clip.mp4")
        paths = {s: repeat_clip(clip, folder / f"long.{s}", minutes=arguments.minutes) for s in CONTAINERS}
        expected = sample(paths["mp4"])
        pixels = {s: bool(np.array_equal(sample(path), expected)) for s, path in paths.items()}
        times = in_turns({s: lambda path=path: sample(path) for s, path in paths.items()}, ROUNDS)  # type: ignore[misc]
        started = time.perf_counter()
        decode_everything(paths["ts"])
        control = {"mp4": times["mp4"], "ts": [(time.perf_counter() - started) * 1000]}
        earlier = {s: bool(np.array_equal(sample(path, offset=-1), expected)) for s, path in paths.items()}
    for suffix, values in times.items():
        print(f"{suffix}: {spread(values, 'ms')}")
    facts = {"benchmark": "containers", "processors": len(os.sched_getaffinity(0)), "minutes": arguments.minutes}
    print(json.dumps({**facts, "times_ms": times, "is_equal": pixels}))
    settle(
        promises_of(times, pixels),
        {
            "frames one earlier": promises_of(times, earlier),
            "everything decoded": promises_of(control, {"ts": True}),
        },
    )


if __name__ == "__main__":
    main()
