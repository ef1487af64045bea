"""What becomes of each file of `shared/data/odd`, through a decode pool: a table for people.

python -m tests.serve.video.outcomes [pyav|decord]
"""

import asyncio
import csv
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from serve.errors import ActserveError, UnsupportedMedia, VideoError
from serve.video.limits import DecodeSettings
from serve.video.workers import DecodePool
from tests.serve.video.conftest import view_request
from tests.shared_data import ODD, VIDEOS


@dataclass(frozen=True)
class Outcome:
    """One file's expected and actual end."""

    file: str
    expected: str  # decodes, error, either
    status: int  # what an HTTP answer would say
    text: str
    seconds: float

    @property
    def is_met(self) -> bool:
        """The server owed this."""
        allowed = {"decodes": {200}, "error": {415, 422}, "either": {200, 415, 422}}
        return self.status in allowed[self.expected]


async def outcome(pool: DecodePool, file: str, expected: str) -> Outcome:
    """Decode one file of the odd corpus."""
    return await outcome_of(pool, ODD / file, expected)


async def outcome_of(pool: DecodePool, path: Path, expected: str = "either") -> Outcome:
    """Decode one file."""
    begun = time.perf_counter()
    try:
        found = (await pool.views(path, view_request(size=64))).metadata
        status, text = 200, f"{found.num_frames} frames of {found.width}x{found.height}, {found.codec}"
    except UnsupportedMedia as error:
        status, text = 415, error.message
    except VideoError as error:
        status, text = 422, f"{type(error).__name__}: {error.message}"
    except ActserveError as error:
        status, text = 500, f"{type(error).__name__}: {error.message}"
    return Outcome(path.name, expected, status, text, time.perf_counter() - begun)


def odd_files() -> list[tuple[str, str]]:
    """(file, expected outcome) of the corpus."""
    if not (ODD / "index.csv").is_file():
        return []
    rows = csv.DictReader((ODD / "index.csv").read_text(encoding="utf-8").splitlines())
    return [(row["file"], row["expected"]) for row in rows]


async def main(decoder: str) -> int:
    """Print the table; 1 when an outcome is missed or a good clip fails right after."""
    pool = DecodePool(DecodeSettings.model_validate({"decoder": decoder}))
    await pool.start()
    faults = 0
    try:
        for file, expected in odd_files():
            result = await outcome(pool, file, expected)
            after = (await pool.views(VIDEOS / "bowling_mesh.mp4", view_request(size=64))).metadata.num_frames
            faults += not result.is_met or after != 51
            mark = "ok" if result.is_met else "MISSED"
            print(f"{file:28} {expected:8} {result.status} {mark:6} {result.seconds * 1000:6.0f} ms  {result.text}")
        print(f"{faults} faults; children replaced: {pool.restarts}")
    finally:
        await pool.close()
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "pyav")))
