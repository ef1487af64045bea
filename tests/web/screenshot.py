"""The picture of the page in the README, taken again: of a rendered video, which may be published.

python -m tests.web.screenshot docs/page.png
python -m tests.web.screenshot page.png --model starter --video clip.mp4
"""

import argparse
import tempfile
from pathlib import Path

from playwright.sync_api import expect, sync_playwright

from tests.running_server import ROOT, running_server
from tests.web.conftest import CHROMIUM, FLAGS
from tests.web.editing import PATIENCE_MS, choose

SIZE = {"width": 1280, "height": 800}


def take(path: Path, *, model: str, video: Path) -> None:
    """Classify a video on the page and write what it shows."""
    with (
        tempfile.TemporaryDirectory() as folder,
        running_server(Path(folder), model=model) as server,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport=SIZE)  # type: ignore[arg-type]
        page.goto(server.address)
        choose(page, video)
        expect(page.locator(".result")).to_have_count(5, timeout=PATIENCE_MS)
        page.screenshot(path=path)
        browser.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--video", type=Path, default=ROOT / "serve" / "web" / "example.mp4")
    options = parser.parse_args()
    take(options.path, model=options.model, video=options.video)
