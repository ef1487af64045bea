"""Draw clips as a picture: a row of frames per clip, with its class and file."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from serve.arrays import UInt8Array

FRAME_SIZE, TEXT_WIDTH, GAP = 96, 260, 4  # pixels
LINE_CHARACTERS = 42


@dataclass(frozen=True, kw_only=True)
class SheetRow:
    """One clip [T, 3, S, S] before normalisation; None if it could not be read."""

    title: str
    subtitle: str
    clip: UInt8Array | None


def draw_sheet(path: Path, rows: Iterable[SheetRow]) -> None:
    """Write the sheet as a PNG."""
    drawn = list(rows)
    columns = max((len(row.clip) for row in drawn if row.clip is not None), default=0)
    step = FRAME_SIZE + GAP
    sheet = Image.new("RGB", (TEXT_WIDTH + columns * step + GAP, len(drawn) * step + GAP), "white")
    pen = ImageDraw.Draw(sheet)
    title_font, font = ImageFont.load_default(15), ImageFont.load_default(11)
    for number, row in enumerate(drawn):
        top = GAP + number * step
        pen.text((GAP, top + 8), row.title[:32], fill="black", font=title_font)
        for line in range(4):
            part = row.subtitle[-4 * LINE_CHARACTERS :][line * LINE_CHARACTERS : (line + 1) * LINE_CHARACTERS]
            pen.text((GAP, top + 32 + 14 * line), part, fill="dimgray", font=font)
        for column, frame in enumerate(row.clip if row.clip is not None else ()):
            picture = Image.fromarray(np.ascontiguousarray(frame.transpose(1, 2, 0)))
            small = picture.resize((FRAME_SIZE, FRAME_SIZE), Image.Resampling.BICUBIC)
            sheet.paste(small, (TEXT_WIDTH + column * step, top))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, format="PNG")
