"""Draw clips on a contact sheet: one row of frames per clip, with the class and the file name."""

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
    """One row of the contact sheet: a clip and its captions."""

    title: str
    subtitle: str
    clip: UInt8Array | None  # [T, 3, S, S], RGB; None if the clip could not be read


def draw_sheet(path: Path, rows: Iterable[SheetRow]) -> None:
    """Draw the rows and write the contact sheet as a PNG file."""
    rows = list(rows)
    columns = max((len(row.clip) for row in rows if row.clip is not None), default=0)
    step = FRAME_SIZE + GAP
    sheet = Image.new("RGB", (TEXT_WIDTH + columns * step + GAP, len(rows) * step + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    title_font, font = ImageFont.load_default(15), ImageFont.load_default(11)
    for number, row in enumerate(rows):
        top = GAP + number * step
        draw.text((GAP, top + 8), row.title[:32], fill="black", font=title_font)
        for line in range(4):
            text = row.subtitle[-4 * LINE_CHARACTERS :][line * LINE_CHARACTERS : (line + 1) * LINE_CHARACTERS]
            draw.text((GAP, top + 32 + 14 * line), text, fill="dimgray", font=font)
        for column, frame in enumerate(row.clip if row.clip is not None else ()):
            image = Image.fromarray(np.ascontiguousarray(frame.transpose(1, 2, 0)))
            thumbnail = image.resize((FRAME_SIZE, FRAME_SIZE), Image.Resampling.BICUBIC)
            sheet.paste(thumbnail, (TEXT_WIDTH + column * step, top))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, format="PNG")
