"""An articulated 2D figure: joints from the angles of a pose and the lengths of a body, and their drawing.

Units: lengths in body heights, angles in degrees from straight down, positive to the right of the picture.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import cv2
import numpy as np

from serve.arrays import UInt8Array

Point = tuple[float, float]
Limb = tuple[float, float]  # angle of the upper part, angle of the lower part
SUBPIXEL_BITS = 4  # OpenCV draws with a resolution of 1/16 pixel


@dataclass(frozen=True, kw_only=True)
class Body:
    """Proportions in body heights, colours in RGB."""

    upper_arm: float = 0.17
    forearm: float = 0.16
    thigh: float = 0.24
    shin: float = 0.24
    torso: float = 0.30
    shoulders: float = 0.11  # half width
    hips: float = 0.06  # half width
    head: float = 0.075  # radius
    thickness: float = 0.055
    cloth: tuple[int, int, int] = (200, 30, 30)
    legs: tuple[int, int, int] = (170, 25, 25)
    skin: tuple[int, int, int] = (220, 180, 150)


@dataclass(frozen=True, kw_only=True)
class SceneObject:
    """An object (ball, box, cup, stool); its position is relative to the middle of the feet."""

    kind: str  # ball or box
    centre: Point  # body heights, y upwards from the ground
    size: float
    colour: tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Pose:
    """Angles of limbs and torso, rotation of the figure about its feet, and height above the ground."""

    left_arm: Limb = (-12, -8)
    right_arm: Limb = (12, 8)
    left_leg: Limb = (-6, -4)
    right_leg: Limb = (6, 4)
    lean: float = 0.0
    tip: float = 0.0
    jump: float = 0.0
    shift: float = 0.0  # to the right
    held: str = ""  # object in the right hand (cup) or between both hands (box)
    things: tuple[SceneObject, ...] = field(default_factory=tuple)


def mirrored(pose: Pose) -> Pose:
    """Exchange left and right."""

    def turn(limb: Limb) -> Limb:
        return (-limb[0], -limb[1])

    return Pose(
        left_arm=turn(pose.right_arm), right_arm=turn(pose.left_arm), left_leg=turn(pose.right_leg),
        right_leg=turn(pose.left_leg), lean=-pose.lean, tip=-pose.tip, jump=pose.jump, shift=-pose.shift,
        held=pose.held,
        things=tuple(
            replace(thing, centre=(-thing.centre[0], thing.centre[1]))
            for thing in pose.things
        ),
    )  # fmt: skip


def joints(pose: Pose, body: Body) -> dict[str, Point]:
    """Return joint name -> (x, y) in body heights, with y up, the ground at y = 0 and the feet around x = 0."""
    legs = {"left": pose.left_leg, "right": pose.right_leg}
    reach = max(
        body.thigh * math.cos(math.radians(upper)) + body.shin * math.cos(math.radians(lower))
        for upper, lower in legs.values()
    )
    hip_height = max(reach, body.thickness) + pose.jump
    lean = math.radians(pose.lean)
    hip = (pose.shift, hip_height)
    neck = (hip[0] + body.torso * math.sin(lean), hip[1] + body.torso * math.cos(lean))
    across = (math.cos(lean), -math.sin(lean))
    found = {"hip": hip, "neck": neck}
    found["head"] = (neck[0] + 1.3 * body.head * math.sin(lean), neck[1] + 1.3 * body.head * math.cos(lean))
    for side, sign in (("left", -1), ("right", 1)):
        shoulder = (neck[0] + sign * body.shoulders * across[0], neck[1] + sign * body.shoulders * across[1])
        arm = pose.left_arm if side == "left" else pose.right_arm
        found[f"{side}_shoulder"] = shoulder
        found[f"{side}_elbow"] = _along(shoulder, arm[0], body.upper_arm)
        found[f"{side}_hand"] = _along(found[f"{side}_elbow"], arm[1], body.forearm)
        socket = (hip[0] + sign * body.hips, hip[1])
        found[f"{side}_hip"] = socket
        found[f"{side}_knee"] = _along(socket, legs[side][0], body.thigh)
        found[f"{side}_foot"] = _along(found[f"{side}_knee"], legs[side][1], body.shin)
    return found if not pose.tip else {name: _tipped(point, pose.tip) for name, point in found.items()}


def draw_figure(picture: UInt8Array, pose: Pose, body: Body, *, origin: Point, height: float) -> None:
    """Draw into `picture`, in place; `origin` is the ground point and `height` the body height, in pixels."""

    def place(point: Point) -> tuple[int, int]:
        scale = 1 << SUBPIXEL_BITS
        return round((origin[0] + point[0] * height) * scale), round((origin[1] - point[1] * height) * scale)

    found = joints(pose, body)
    width = max(1, round(body.thickness * height))

    def line(names: Sequence[str], colour: tuple[int, int, int], thickness: int) -> None:
        for start, stop in pairwise(names):
            cv2.line(picture, place(found[start]), place(found[stop]), colour, thickness, cv2.LINE_AA, SUBPIXEL_BITS)

    def disc(centre: Point, radius: float, colour: tuple[int, int, int]) -> None:
        pixels = round(radius * height * (1 << SUBPIXEL_BITS))
        cv2.circle(picture, place(centre), pixels, colour, -1, cv2.LINE_AA, SUBPIXEL_BITS)

    for thing in pose.things:
        draw_thing(picture, thing, place, height)
    for side in ("left", "right"):
        line((f"{side}_hip", f"{side}_knee", f"{side}_foot"), body.legs, width)
    trunk = [place(found[name]) for name in ("left_shoulder", "right_shoulder", "right_hip", "left_hip")]
    cv2.fillPoly(picture, [np.array(trunk, np.int32)], body.cloth, cv2.LINE_AA, SUBPIXEL_BITS)
    line(("left_shoulder", "right_shoulder", "right_hip", "left_hip", "left_shoulder"), body.cloth, width)
    for side in ("left", "right"):
        line((f"{side}_shoulder", f"{side}_elbow"), body.cloth, width)
        line((f"{side}_elbow", f"{side}_hand"), body.skin, max(1, round(width * 0.8)))
        disc(found[f"{side}_hand"], body.thickness * 0.55, body.skin)
    disc(found["head"], body.head, body.skin)
    if pose.held == "cup":
        draw_thing(
            picture,
            SceneObject(kind="box", centre=found["right_hand"], size=0.05, colour=(245, 245, 245)),
            place,
            height,
        )
    elif pose.held == "box":
        left, right = found["left_hand"], found["right_hand"]
        middle = ((left[0] + right[0]) / 2, (left[1] + right[1]) / 2)
        draw_thing(picture, SceneObject(kind="box", centre=middle, size=0.16, colour=(150, 105, 60)), place, height)


def draw_thing(picture: UInt8Array, thing: SceneObject, place, height: float) -> None:  # type: ignore[no-untyped-def]
    """Draw a ball or a box into `picture`."""
    if thing.kind == "ball":
        pixels = round(thing.size * height * (1 << SUBPIXEL_BITS))
        cv2.circle(picture, place(thing.centre), pixels, thing.colour, -1, cv2.LINE_AA, SUBPIXEL_BITS)
        return
    (x, y), half = thing.centre, thing.size / 2
    corners = [
        place(corner)
        for corner in ((x - half, y - half), (x + half, y - half), (x + half, y + half), (x - half, y + half))
    ]
    cv2.fillPoly(picture, [np.array(corners, np.int32)], thing.colour, cv2.LINE_AA, SUBPIXEL_BITS)


def _along(start: Point, angle: float, length: float) -> Point:
    radians = math.radians(angle)
    return start[0] + length * math.sin(radians), start[1] - length * math.cos(radians)


def _tipped(point: Point, angle: float) -> Point:
    radians = math.radians(angle)
    x, y = point
    return x * math.cos(radians) + y * math.sin(radians), abs(y * math.cos(radians) - x * math.sin(radians))
