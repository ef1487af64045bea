"""Names of the pictures in a folder of extracted frames."""

FRAME_TEMPLATE = "img_{:05d}.jpg"
ZERO_BASED_TEMPLATE = "frame{:d}.jpg"  # the one template whose files are taken to start at 0


def first_file_number(template: str = FRAME_TEMPLATE, bias: int | None = None) -> int:
    """Number of the file that holds frame 0: `bias` where it is given, else 1, or 0 under `frame{:d}.jpg`."""
    if bias is not None:
        return bias
    return 0 if template == ZERO_BASED_TEMPLATE else 1
