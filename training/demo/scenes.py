"""Scenes that show a figure before a textured background with distractors and a moving camera.

A scene is determined by its world and seed. The worlds `train` and `test` have different textures and, because the name
of the world is part of the seed, different bodies and movements.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np

from serve.arrays import UInt8Array
from training.demo.actions import IN_PLACE, TRAVELLING
from training.demo.captions import Combination
from training.demo.figure import Body, draw_figure, mirror_pose

World = Literal["train", "test"]
Random = np.random.Generator
HUES = {"red": 0, "yellow": 27, "green": 62, "blue": 112, "purple": 143}  # 0 to 180, as in OpenCV
SKINS = ((255, 219, 190), (224, 172, 125), (198, 134, 90), (141, 85, 50), (90, 56, 40))
STYLES = ("blobs", "gradient", "checks", "stripes", "dots")
TEXTURES: dict[World, tuple[str, ...]] = {"train": STYLES[:3], "test": STYLES[3:]}


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Parameters of one video; lengths are relative to the shorter side of the image."""

    combination: Combination
    height: int  # pixels
    width: int
    duration_seconds: float
    body: Body
    size: float  # body height
    travel: float  # distance that the figure moves to the right; negative if it moves to the left
    start: tuple[float, float]  # initial position of the feet, relative to the centre of the image
    cycles: float  # number of cycles of the action in the video
    phase: float  # of the action at the start, in cycles
    is_mirrored: bool
    pan: tuple[float, float, float, float]  # amplitude and phase, horizontally, then vertically
    zoom: tuple[float, float]  # amplitude and phase
    background: UInt8Array  # [H + 2 * margin, W + 2 * margin, 3]
    margin: int


def make_generator(world: World, seed: int) -> Random:
    """Return a random generator for a seed in a world; the generators of the two worlds are independent."""
    digest = hashlib.sha256(f"{world}:{seed}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


def make_scene(combination: Combination, world: World, seed: int, *, short_side: int) -> Scene:
    """Create a random scene that shows a combination; the shorter side of the image has `short_side` pixels."""
    random = make_generator(world, seed)
    aspect = random.choice([1.0, 4 / 3, 3 / 2, 16 / 9])
    height, width = short_side, 2 * round(short_side * aspect / 2)
    duration = random.uniform(1.6, 4.0)
    size = random.uniform(0.46, 0.66)
    is_travelling = combination.action in TRAVELLING
    travel = random.uniform(0.38, 0.62) * (-1 if combination.direction == "left" else 1) if is_travelling else 0.0
    start = (
        random.uniform(-0.08, 0.08) - travel / 2,
        random.uniform(0.26, 0.36) - (0.66 - size) * random.uniform(0, 0.5),
    )
    margin = short_side // 8
    return Scene(
        combination=combination,
        height=height,
        width=width,
        duration_seconds=duration,
        body=make_body(combination.colour, random),
        size=size,
        travel=travel,
        start=start,
        cycles=random.uniform(0.7, 1.35) * (duration if is_travelling else max(1.3, duration * 0.8)),
        phase=random.uniform(0, 1),
        is_mirrored=bool(random.random() < 0.5),
        pan=(random.uniform(0, 0.05), random.uniform(0, 6.3), random.uniform(0, 0.03), random.uniform(0, 6.3)),
        zoom=(random.uniform(0, 0.06), random.uniform(0, 6.3)),
        background=make_background(height + 2 * margin, width + 2 * margin, world, random),
        margin=margin,
    )


def draw_scene(scene: Scene, progress: float) -> UInt8Array:
    """Draw the frame [H, W, 3] at `progress` (0 to 1) of the video."""
    short = min(scene.height, scene.width)
    across, down = (scene.pan[i] * np.sin(scene.pan[i + 1] + 2.5 * progress) * short for i in (0, 2))
    zoom = 1 + scene.zoom[0] * np.sin(scene.zoom[1] + 2.5 * progress)
    centre = (scene.width / 2, scene.height / 2)
    camera = np.array(
        [[zoom, 0, centre[0] * (1 - zoom) + across - scene.margin * zoom],
         [0, zoom, centre[1] * (1 - zoom) + down - scene.margin * zoom]]
    )  # fmt: skip
    frame = cv2.warpAffine(
        scene.background, camera, (scene.width, scene.height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
    )
    pose_at = (IN_PLACE | TRAVELLING)[scene.combination.action]
    pose = pose_at(progress, scene.phase + scene.cycles * progress)
    pose = mirror_pose(pose) if scene.is_mirrored else pose
    x = (scene.start[0] + scene.travel * progress) * short * zoom + centre[0] + across
    y = scene.start[1] * short * zoom + centre[1] + down
    draw_figure(frame, pose, scene.body, origin=(x, y), height=scene.size * short * zoom)
    return np.asarray(frame, np.uint8)


def make_body(colour: str, random: Random) -> Body:
    """Create a body with random proportions and clothes in a random shade of the colour."""
    plain = Body()
    lengths = {
        name: getattr(plain, name) * random.uniform(0.86, 1.14)
        for name in ("upper_arm", "forearm", "thigh", "shin", "torso", "shoulders", "hips", "head", "thickness")
    }
    cloth = random_shade(colour, random)
    legs = cloth
    if colour != "white":
        red, green, blue = (int(value * random.uniform(0.72, 0.98)) for value in cloth)
        legs = (red, green, blue)
    skin = SKINS[int(random.integers(len(SKINS)))]
    return replace(plain, **lengths, cloth=cloth, legs=legs, skin=skin)


def random_shade(colour: str, random: Random) -> tuple[int, int, int]:
    """Return a random RGB shade of a named colour."""
    if colour == "white":
        level = int(random.integers(232, 256))
        return (level, level, level)
    hue = (HUES[colour] + int(random.integers(-5, 6))) % 180
    pixel = np.array([[[hue, random.integers(185, 256), random.integers(165, 246)]]], np.uint8)
    red, green, blue = cv2.cvtColor(pixel, cv2.COLOR_HSV2RGB)[0, 0].tolist()
    return (red, green, blue)


def make_background(height: int, width: int, world: World, random: Random) -> UInt8Array:
    """Create a textured background with a few distractors, in muted colours."""
    textures = TEXTURES[world]
    background = BACKGROUNDS[textures[int(random.integers(len(textures)))]](height, width, random)
    for _ in range(int(random.integers(0, 5))):
        corner = (int(random.integers(0, width)), int(random.integers(0, height)))
        size = int(random.integers(height // 20 + 1, height // 6 + 2))
        if random.random() < 0.5:
            cv2.circle(background, corner, size // 2, random_muted_colour(random), -1, cv2.LINE_AA)
        else:
            cv2.rectangle(background, corner, (corner[0] + size, corner[1] + size), random_muted_colour(random), -1)
    grain = random.integers(0, int(random.integers(1, 14)), background.shape, dtype=np.uint8)
    return np.asarray(cv2.add(background, grain), np.uint8)


def random_muted_colour(random: Random) -> tuple[int, int, int]:
    """Return a random colour of low saturation, which no clothes have."""
    base, spread = random.uniform(50, 205), random.uniform(-28, 28, 3)
    red, green, blue = np.clip(base + spread, 0, 255).astype(int).tolist()
    return (red, green, blue)


def _blobs(height: int, width: int, random: Random) -> UInt8Array:
    cells = int(random.integers(3, 12))
    coarse = np.array([[random_muted_colour(random) for _ in range(cells)] for _ in range(cells)], np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def _gradient(height: int, width: int, random: Random) -> UInt8Array:
    first, last = np.array(random_muted_colour(random), float), np.array(random_muted_colour(random), float)
    angle = random.uniform(0, 2 * np.pi)
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    way = x * np.cos(angle) + y * np.sin(angle)
    way = (way - way.min()) / max(float(np.ptp(way)), 1e-6)
    frame: UInt8Array = (first + (last - first) * way[..., None]).astype(np.uint8)
    return frame


def _two_tone(mask: np.ndarray, random: Random) -> UInt8Array:
    first = np.array(random_muted_colour(random), float)
    second = np.clip(first + random.uniform(-45, 45), 0, 255)
    return np.where(mask[..., None], first, second).astype(np.uint8)


def _checks(height: int, width: int, random: Random) -> UInt8Array:
    y, x = np.mgrid[0:height, 0:width]
    side = random.uniform(0.06, 0.2) * height
    return _two_tone(((x // side + y // side) % 2).astype(bool), random)


def _stripes(height: int, width: int, random: Random) -> UInt8Array:
    y, x = np.mgrid[0:height, 0:width]
    angle, side = random.uniform(0, np.pi), random.uniform(0.05, 0.18) * height
    return _two_tone(((x * np.cos(angle) + y * np.sin(angle)) // side % 2).astype(bool), random)


def _dots(height: int, width: int, random: Random) -> UInt8Array:
    y, x = np.mgrid[0:height, 0:width]
    side = random.uniform(0.08, 0.22) * height
    return _two_tone((x % side - side / 2) ** 2 + (y % side - side / 2) ** 2 < (0.3 * side) ** 2, random)


BACKGROUNDS: dict[str, Callable[[int, int, Random], UInt8Array]] = {
    "blobs": _blobs,
    "gradient": _gradient,
    "checks": _checks,
    "stripes": _stripes,
    "dots": _dots,
}
