"""Table of the codecs whose bitstream is parsed; streams of all other codecs are decoded in order."""

from collections.abc import Callable

from serve.video.bitstream.av1 import Av1Inspector
from serve.video.bitstream.h264 import H264Inspector
from serve.video.bitstream.hevc import HevcInspector
from serve.video.bitstream.inspector import BitstreamParser
from serve.video.bitstream.intra import Ffv1Inspector, IntraInspector, TheoraInspector
from serve.video.bitstream.mpeg import H263Inspector, Mpeg4Inspector, MpegInspector, SorensonInspector
from serve.video.bitstream.vpx import Vp8Inspector, Vp9Inspector

INSPECTORS: dict[str, Callable[[], BitstreamParser]] = {
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
# PNG is left out: FFmpeg's decoder blends a picture over the previous one unless the container flags it as a key frame.
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
