"""Intra-only codecs, and codecs whose first bits mark key frames; none of them reorders pictures."""

from serve.video.bitstream.inspector import NO_PARAMETER_SETS, PacketInfo, ParameterSets


class IntraInspector:
    """Intra-only codecs: every packet is an access point."""

    can_skip_non_reference = False
    needs_inline_config = False
    extradata_header_bytes = 0

    def read_extradata(self, extradata: bytes) -> ParameterSets:
        """Return nothing: these codecs have no parameter sets."""
        return NO_PARAMETER_SETS

    def inspect(self, data: memoryview) -> PacketInfo:
        """Describe one picture."""
        return PacketInfo(is_access_point=True)

    def join_parameter_sets(self, config: ParameterSets) -> bytes:
        """Concatenate the parameter sets unchanged."""
        return b"".join(config.values())


class TheoraInspector(IntraInspector):
    """Theora: the first two bits of a packet mark headers and key frames."""

    can_skip_non_reference = True

    def inspect(self, data: memoryview) -> PacketInfo:
        """Describe one packet."""
        if data[0] & 0x80:
            return PacketInfo(is_access_point=False, is_shown=False)  # a header
        return PacketInfo(not data[0] & 0x40)


class Ffv1Inspector(IntraInspector):
    """FFV1: the first symbol of the range coder marks key frames; RFC 9043 section 4.4."""

    def inspect(self, data: memoryview) -> PacketInfo:
        """Describe one frame."""
        return PacketInfo(int.from_bytes(data[:2], "big") >= 0x7F80)
