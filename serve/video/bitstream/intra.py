"""Codecs without prediction between pictures, and those whose first bits tell key pictures; none reorders."""

from serve.video.bitstream.picture import NO_CONFIG, Config, Picture


class IntraInspector:
    """Codecs whose every picture stands alone."""

    may_skip = False
    injects_config = False
    extradata_header = 0

    def reset(self, extradata: bytes) -> Config:
        """What stands outside the packets does not change between them."""
        return NO_CONFIG

    def inspect(self, data: memoryview) -> Picture:
        """Describe one picture."""
        return Picture(is_access=True)

    def join(self, config: Config) -> bytes:
        """Parameter sets as they are."""
        return b"".join(config.values())


class TheoraInspector(IntraInspector):
    """Theora: the first two bits of a packet."""

    may_skip = True

    def inspect(self, data: memoryview) -> Picture:
        """Describe one packet."""
        if data[0] & 0x80:
            return Picture(is_access=False, is_shown=False)  # a header
        return Picture(not data[0] & 0x40)


class Ffv1Inspector(IntraInspector):
    """FFV1: the first symbol of the range coder says whether the contexts begin again; RFC 9043 section 4.4."""

    def inspect(self, data: memoryview) -> Picture:
        """Describe one frame."""
        return Picture(int.from_bytes(data[:2], "big") >= 0x7F80)
