"""Codecs whose bitstream is understood here; streams of all others are decoded in order."""

from collections.abc import Callable

from serve.video.bitstream.av1 import Av1Inspector
from serve.video.bitstream.h264 import H264Inspector
from serve.video.bitstream.hevc import HevcInspector
from serve.video.bitstream.intra import Ffv1Inspector, IntraInspector, TheoraInspector
from serve.video.bitstream.mpeg import H263Inspector, Mpeg4Inspector, MpegInspector, SorensonInspector
from serve.video.bitstream.picture import Inspector
from serve.video.bitstream.vpx import Vp8Inspector, Vp9Inspector

INSPECTORS: dict[str, Callable[[], Inspector]] = {
    "h264": H264Inspector,
    "hevc": HevcInspector,
    "mpeg1video": MpegInspector,
    "mpeg2video": MpegInspector,
    "mpeg4": Mpeg4Inspector,
    "h263": H263Inspector,
    "flv1": SorensonInspector,
    "vp8": Vp8Inspector,
    "vp9": Vp9Inspector,
    "av1": Av1Inspector,
    "theora": TheoraInspector,
    "ffv1": Ffv1Inspector,
}
# Not PNG: its decoder adds a picture to the one before where the container does not call it a key picture.
INSPECTORS |= dict.fromkeys(
    (
        "bmp",
        "dnxhd",
        "dvvideo",
        "ffvhuff",
        "huffyuv",
        "jpeg2000",
        "mjpeg",
        "prores",
        "rawvideo",
        "utvideo",
        "v210",
    ),
    IntraInspector,
)
