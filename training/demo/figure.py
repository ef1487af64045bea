"""Draw an articulated 2D figure: joints are computed from the angles of a pose and the proportions of a body.

Lengths are in body heights, angles in degrees from straight down, positive towards the right of the image.
"""

import math
from collections.abc import Callable, Sequence
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
    """An object next to the figure; its position is relative to the point between the feet."""

    kind: str  # ball or box
    centre: Point  # body heights, y upwards from the ground
    size: float
    colour: tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Pose:
    """Angles of limbs and torso, position of the figure, and objects."""

    left_arm: Limb = (-12, -8)
    right_arm: Limb = (12, 8)
    left_leg: Limb = (-6, -4)
    right_leg: Limb = (6, 4)
    lean: float = 0.0  # angle of the torso
    tip: float = 0.0  # rotation of the figure about its feet
    jump: float = 0.0  # height above the ground
    shift: float = 0.0  # offset to the right
    held: str = ""  # object in the right hand (cup) or between both hands (box)
    objects: tuple[SceneObject, ...] = field(default_factory=tuple)


def mirror_pose(pose: Pose) -> Pose:
    """Return the pose with left and right exchanged."""

    def mirror_limb(limb: Limb) -> Limb:
        return (-limb[0], -limb[1])

    return Pose(
        left_arm=mirror_limb(pose.right_arm),
        right_arm=mirror_limb(pose.left_arm),
        left_leg=mirror_limb(pose.right_leg),
        right_leg=mirror_limb(pose.left_leg),
        lean=-pose.lean,
        tip=-pose.tip,
        jump=pose.jump,
        shift=-pose.shift,
        held=pose.held,
        objects=tuple(replace(item, centre=(-item.centre[0], item.centre[1])) for item in pose.objects),
    )


def compute_joints(pose: Pose, body: Body) -> dict[str, Point]:
    """Return the position (x, y) of each joint by name; y points up, the ground is at y = 0, the feet near x = 0."""
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
    positions = {"hip": hip, "neck": neck}
    positions["head"] = (neck[0] + 1.3 * body.head * math.sin(lean), neck[1] + 1.3 * body.head * math.cos(lean))
    for side, sign in (("left", -1), ("right", 1)):
        shoulder = (neck[0] + sign * body.shoulders * across[0], neck[1] + sign * body.shoulders * across[1])
        arm = pose.left_arm if side == "left" else pose.right_arm
        positions[f"{side}_shoulder"] = shoulder
        positions[f"{side}_elbow"] = _point_along(shoulder, arm[0], body.upper_arm)
        positions[f"{side}_hand"] = _point_along(positions[f"{side}_elbow"], arm[1], body.forearm)
        socket = (hip[0] + sign * body.hips, hip[1])
        positions[f"{side}_hip"] = socket
        positions[f"{side}_knee"] = _point_along(socket, legs[side][0], body.thigh)
        positions[f"{side}_foot"] = _point_along(positions[f"{side}_knee"], legs[side][1], body.shin)
    return positions if not pose.tip else {name: _tip_over(point, pose.tip) for name, point in positions.items()}


def draw_figure(image: UInt8Array, pose: Pose, body: Body, *, origin: Point, height: float) -> None:
    """Draw a figure into `image`, in place.

    `origin` is the point between the feet and `height` the body height, both in pixels.
    """

    def to_pixels(point: Point) -> tuple[int, int]:
        scale = 1 << SUBPIXEL_BITS
        return round((origin[0] + point[0] * height) * scale), round((origin[1] - point[1] * height) * scale)

    positions = compute_joints(pose, body)
    width = max(1, round(body.thickness * height))

    def line(names: Sequence[str], colour: tuple[int, int, int], thickness: int) -> None:
        for start, stop in pairwise(names):
            cv2.line(
                image,
                to_pixels(positions[start]),
                to_pixels(positions[stop]),
                colour,
                thickness,
                cv2.LINE_AA,
                SUBPIXEL_BITS,
            )

    def disc(centre: Point, radius: float, colour: tuple[int, int, int]) -> None:
        pixels = round(radius * height * (1 << SUBPIXEL_BITS))
        cv2.circle(image, to_pixels(centre), pixels, colour, -1, cv2.LINE_AA, SUBPIXEL_BITS)

    for item in pose.objects:
        draw_object(image, item, to_pixels, height)
    for side in ("left", "right"):
        line((f"{side}_hip", f"{side}_knee", f"{side}_foot"), body.legs, width)
    trunk = [to_pixels(positions[name]) for name in ("left_shoulder", "right_shoulder", "right_hip", "left_hip")]
    cv2.fillPoly(image, [np.array(trunk, np.int32)], body.cloth, cv2.LINE_AA, SUBPIXEL_BITS)
    line(("left_shoulder", "right_shoulder", "right_hip", "left_hip", "left_shoulder"), body.cloth, width)
    for side in ("left", "right"):
        line((f"{side}_shoulder", f"{side}_elbow"), body.cloth, width)
        line((f"{side}_elbow", f"{side}_hand"), body.skin, max(1, round(width * 0.8)))
        disc(positions[f"{side}_hand"], body.thickness * 0.55, body.skin)
    disc(positions["head"], body.head, body.skin)
    if pose.held == "cup":
        draw_object(
            image,
            SceneObject(kind="box", centre=positions["right_hand"], size=0.05, colour=(245, 245, 245)),
            to_pixels,
            height,
        )
    elif pose.held == "box":
        left, right = positions["left_hand"], positions["right_hand"]
        middle = ((left[0] + right[0]) / 2, (left[1] + right[1]) / 2)
        draw_object(image, SceneObject(kind="box", centre=middle, size=0.16, colour=(150, 105, 60)), to_pixels, height)


def draw_object(
    image: UInt8Array, item: SceneObject, to_pixels: Callable[[Point], tuple[int, int]], height: float
) -> None:
    """Draw a ball or a box into `image` in place; `to_pixels` converts body heights to subpixel coordinates."""
    if item.kind == "ball":
        pixels = round(item.size * height * (1 << SUBPIXEL_BITS))
        cv2.circle(image, to_pixels(item.centre), pixels, item.colour, -1, cv2.LINE_AA, SUBPIXEL_BITS)
        return
    (x, y), half = item.centre, item.size / 2
    corners = [
        to_pixels(corner)
        for corner in ((x - half, y - half), (x + half, y - half), (x + half, y + half), (x - half, y + half))
    ]
    cv2.fillPoly(image, [np.array(corners, np.int32)], item.colour, cv2.LINE_AA, SUBPIXEL_BITS)


def _point_along(start: Point, angle: float, length: float) -> Point:
    radians = math.radians(angle)
    return start[0] + length * math.sin(radians), start[1] - length * math.cos(radians)


def _tip_over(point: Point, angle: float) -> Point:
    radians = math.radians(angle)
    x, y = point
    return x * math.cos(radians) + y * math.sin(radians), abs(y * math.cos(radians) - x * math.sin(radians))
