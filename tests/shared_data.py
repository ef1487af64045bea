"""Where the test data outside the clone lies, and the mark that skips a test where it is absent."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"
GOLDEN = SHARED / "reference" / "golden"
VIDEOS = SHARED / "data" / "videos"
ODD = SHARED / "data" / "odd"
FIELD = SHARED / "data" / "field"
LABELS = SHARED / "data" / "labels"
FIELD = SHARED / "data" / "field"

needs_shared = pytest.mark.skipif(
    not SHARED.is_dir(), reason="the folder `shared` with clips and golden vectors is not beside this clone"
)
