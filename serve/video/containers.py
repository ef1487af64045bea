"""Allow-lists of containers and codecs.

FFmpeg would follow playlists, concat scripts and image sequences to other files and hosts, so only the demuxers in
`DEMUXERS` may open an upload.
"""

# Demuxers that read only one file. Audio formats are included so that the error can say "audio only".
DEMUXERS = (
    "3g2,3gp,aac,aiff,apng,asf,avi,bmp_pipe,dv,flac,flv,gif,h264,hevc,ivf,jpeg_pipe,m4a,m4v,matroska,mj2,mov,mp3,mp4,mpeg,mpegts,"
    "mpegvideo,mxf,nut,obu,ogg,png_pipe,rm,wav,webm,webp_pipe"
)
# fmt: off
CODECS = frozenset({
    "apng", "av1", "bmp", "cinepak", "dnxhd", "dvvideo", "ffv1", "flashsv", "flashsv2", "flv1", "gif", "h261",
    "h263", "h263i", "h264", "hevc", "huffyuv", "ffvhuff", "indeo3", "indeo5", "jpeg2000", "mjpeg", "mpeg1video",
    "mpeg2video", "mpeg4", "msmpeg4v1", "msmpeg4v2", "msmpeg4v3", "msvideo1", "png", "prores", "qtrle", "rawvideo",
    "rv30", "rv40", "svq1", "svq3", "theora", "utvideo", "v210", "vc1", "vp6", "vp6f", "vp8", "vp9", "webp", "wmv1",
    "wmv2", "wmv3",
})
# fmt: on
# Containers with presentation times that are complete and never jump.
RELIABLE_TIMES = frozenset({"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "gif"})
# Containers with presentation times that may wrap, jump or be missing. AVI and raw streams have none.
UNRELIABLE_TIMES = frozenset({"mpegts", "mpeg", "flv", "live_flv", "ivf", "nut", "asf", "ogg"})
