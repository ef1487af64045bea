"""Everyday actions as functions of time: each returns the pose at progress `u` of the video (0 to 1) and phase `c`.

The phase is in cycles of the action. The poses of travelling actions do not show the direction: the scene moves the
figure, and poses are mirrored at random, so that a single frame does not reveal the direction.
"""

import math
from collections.abc import Callable

from training.demo.figure import Pose, SceneObject

PoseAt = Callable[[float, float], Pose]
BALL = (240, 140, 30)
STOOL = (110, 80, 50)


def swing(c: float) -> float:
    """Return a value that oscillates between -1 and 1 once per cycle."""
    return math.sin(2 * math.pi * c)


def rise(c: float) -> float:
    """Return a value that rises from 0 to 1 and falls back to 0 once per cycle."""
    return (1 - math.cos(2 * math.pi * c)) / 2


def once(u: float) -> float:
    """Return a value that rises from 0 to 1 once, in the middle of the video."""
    x = min(1.0, max(0.0, (u - 0.12) / 0.72))
    return x * x * (3 - 2 * x)


def waving_one_arm(u: float, c: float) -> Pose:
    return Pose(right_arm=(128, 168 + 42 * swing(c)))  # the head must not hide an upper arm


def waving_both_arms(u: float, c: float) -> Pose:
    s = 42 * swing(c)
    return Pose(left_arm=(-128, -168 - s), right_arm=(128, 168 + s))


def clapping(u: float, c: float) -> Pose:
    q = rise(c)
    return Pose(left_arm=(-78 + 48 * q, -50 + 160 * q), right_arm=(78 - 48 * q, 50 - 160 * q))


def jumping_jacks(u: float, c: float) -> Pose:
    q = rise(c)
    arm, leg = 15 + 150 * q, 4 + 26 * q
    return Pose(
        left_arm=(-arm, -arm),
        right_arm=(arm, arm),
        left_leg=(-leg, -leg),
        right_leg=(leg, leg),
        jump=0.06 * abs(swing(c)),
    )


def squatting(u: float, c: float) -> Pose:
    q = rise(c)
    return Pose(
        left_arm=(-12 - 75 * q, -8 - 80 * q), right_arm=(12 + 75 * q, 8 + 80 * q),
        left_leg=(-6 - 66 * q, -4 + 24 * q), right_leg=(6 + 66 * q, 4 - 24 * q),
    )  # fmt: skip


def bowing(u: float, c: float) -> Pose:
    return Pose(lean=80 * rise(c))


def kicking(u: float, c: float) -> Pose:
    q = rise(c)
    return Pose(right_leg=(6 + 88 * q, 4 + 92 * q), left_arm=(-40, -60), right_arm=(30, 20), lean=-12 * q)


def punching(u: float, c: float) -> Pose:
    right, left = max(swing(c), 0.0), max(-swing(c), 0.0)
    return Pose(right_arm=(25 + 68 * right, 155 - 62 * right), left_arm=(-25 - 68 * left, -155 + 62 * left))


def falling_down(u: float, c: float) -> Pose:
    e = once(u)
    return Pose(tip=88 * e * e, left_arm=(-12 - 60 * e, -8 - 70 * e), right_arm=(12 + 60 * e, 8 + 70 * e))


def _sitting(e: float) -> Pose:
    stool = SceneObject(kind="box", centre=(-0.14, 0.10), size=0.20, colour=STOOL)
    return Pose(
        left_leg=(-6 + 86 * e, -4 + 4 * e), right_leg=(6 + 76 * e, 4 - 2 * e), shift=-0.12 * e,
        left_arm=(-12 + 42 * e, -8 + 58 * e), right_arm=(12 + 28 * e, 8 + 52 * e), objects=(stool,),
    )  # fmt: skip


def sitting_down(u: float, c: float) -> Pose:
    return _sitting(once(u))


def raising_both_arms(u: float, c: float) -> Pose:
    angle = 12 + 160 * once(u)
    return Pose(left_arm=(-angle, -angle), right_arm=(angle, angle))


def marching_in_place(u: float, c: float) -> Pose:
    right, left = max(swing(c), 0.0), max(-swing(c), 0.0)
    return Pose(
        right_leg=(6 + 66 * right, 4 - 26 * right), left_leg=(-6 - 66 * left, -4 + 26 * left),
        right_arm=(12 + 25 * left, 8 + 60 * left), left_arm=(-12 - 25 * right, -8 - 60 * right),
    )  # fmt: skip


def hopping_in_place(u: float, c: float) -> Pose:
    high = abs(swing(c / 2))
    return Pose(
        jump=0.17 * high,
        left_leg=(-3 - 14 * (1 - high), 12 * (1 - high)),
        right_leg=(3 + 14 * (1 - high), -12 * (1 - high)),
    )


def throwing_a_ball(u: float, c: float) -> Pose:
    e = once(u)
    arm = 230 - 165 * min(1.0, 1.8 * e)
    flight = max(0.0, e - 0.42) / 0.58
    centre = (
        (0.30 + 0.75 * flight, 0.95 + 0.15 * flight - 0.55 * flight * flight) if flight else (-0.28 + 0.6 * e, 1.02)
    )
    ball = SceneObject(kind="ball", centre=centre, size=0.05, colour=BALL)
    return Pose(right_arm=(arm, arm), left_arm=(-40, -20), lean=-12 + 26 * e, objects=(ball,))


def lifting_a_box(u: float, c: float) -> Pose:
    e = once(u)
    bent = max(0.0, 1 - 2 * e)
    arm = 8 + 160 * max(0.0, 2 * e - 1)
    fore = -6 + (60 * min(1.0, 2 * e) if e < 0.5 else 60 + 112 * (2 * e - 1))
    return Pose(
        left_leg=(-6 - 62 * bent, -4 + 24 * bent), right_leg=(6 + 62 * bent, 4 - 24 * bent),
        left_arm=(-arm, -fore), right_arm=(arm, fore), held="box",
    )  # fmt: skip


def drinking(u: float, c: float) -> Pose:
    q = rise(c)
    return Pose(right_arm=(35 + 10 * q, 95 + 95 * q), held="cup")


def circling_both_arms(u: float, c: float) -> Pose:
    return Pose(left_arm=(-360 * c, -360 * c), right_arm=(360 * c, 360 * c))


def swaying(u: float, c: float) -> Pose:
    s = swing(c)
    return Pose(
        lean=30 * s, shift=0.05 * s, left_arm=(-30 + 20 * s, -30 + 30 * s), right_arm=(30 + 20 * s, 30 + 30 * s)
    )


def lunging(u: float, c: float) -> Pose:
    q = rise(c)
    return Pose(
        right_leg=(6 + 62 * q, 4 - 6 * q), left_leg=(-6 - 42 * q, -4 - 44 * q), left_arm=(-40, 40), right_arm=(40, -40)
    )


def balancing_on_one_leg(u: float, c: float) -> Pose:
    s = 7 * swing(c)
    return Pose(right_leg=(58, -48), left_arm=(-92 + s, -92 + s), right_arm=(92 + s, 92 + s), lean=0.4 * s)


def dribbling_a_ball(u: float, c: float) -> Pose:
    high = abs(swing(c / 2))
    ball = SceneObject(kind="ball", centre=(0.30, 0.06 + 0.40 * high), size=0.06, colour=BALL)
    return Pose(right_arm=(35, 40 + 30 * high), objects=(ball,))


def walking(u: float, c: float) -> Pose:
    s = swing(c)
    return Pose(
        left_leg=(26 * s, 18 * s), right_leg=(-26 * s, -18 * s), left_arm=(-24 * s, -20 * s), right_arm=(24 * s, 20 * s)
    )


def running(u: float, c: float) -> Pose:
    s = swing(c)
    return Pose(
        left_leg=(48 * s, 48 * s - 45 * max(-s, 0)), right_leg=(-48 * s, -48 * s + 45 * max(s, 0)),
        left_arm=(-55 * s, -55 * s + 80), right_arm=(55 * s, 55 * s - 80), jump=0.04 * abs(s),
    )  # fmt: skip


def crawling(u: float, c: float) -> Pose:
    s = swing(c)
    return Pose(
        lean=84,
        left_arm=(20 * s, 12 * s),
        right_arm=(-20 * s, -12 * s),
        left_leg=(14 * s, -84),
        right_leg=(-14 * s, -84),
    )


def gliding(u: float, c: float) -> Pose:
    return Pose(left_arm=(-60, -75), right_arm=(60, 75), left_leg=(-8, -6), right_leg=(24, 30))


def leaping(u: float, c: float) -> Pose:
    high = abs(swing(c / 2))
    return Pose(jump=0.20 * high,
                left_leg=(-10 - 38 * high, -10 - 30 * high), right_leg=(10 + 38 * high, 10 + 30 * high),
                left_arm=(-30 - 70 * high, -30 - 80 * high), right_arm=(30 + 70 * high, 30 + 80 * high))  # fmt: skip


_REPEATED: dict[str, PoseAt] = {
    "waving one arm": waving_one_arm,
    "waving both arms": waving_both_arms,
    "clapping": clapping,
    "doing jumping jacks": jumping_jacks,
    "squatting": squatting,
    "bowing": bowing,
    "kicking": kicking,
    "punching": punching,
    "marching in place": marching_in_place,
    "hopping in place": hopping_in_place,
    "throwing a ball": throwing_a_ball,
    "drinking": drinking,
    "circling both arms": circling_both_arms,
    "swaying from side to side": swaying,
    "doing lunges": lunging,
    "balancing on one leg": balancing_on_one_leg,
    "dribbling a ball": dribbling_a_ball,
}
TRAVELLING: dict[str, PoseAt] = {
    "walking": walking,
    "running": running,
    "crawling": crawling,
    "gliding": gliding,
    "leaping": leaping,
}


def _arms_from_side(e: float) -> Pose:
    """Return a pose with the arms stretched out to the sides for e = 0, and crossed in front of the chest for e = 1."""
    return Pose(left_arm=(-95 + 75 * e, -95 + 205 * e), right_arm=(95 - 75 * e, 95 - 205 * e))


def _beckoning(e: float) -> Pose:
    """Return a pose with the arm stretched away from the body for e = 0, and the hand at the head for e = 1."""
    return Pose(right_arm=(95 - 35 * e, 85 + 115 * e))


def _sawtooth(c: float) -> float:
    """Return a value that rises from 0 to 1 during three quarters of a cycle and then falls back."""
    x = c % 1.0
    return x / 0.75 if x < 0.75 else (1 - x) / 0.25


def _reverse(pose_at: PoseAt) -> PoseAt:
    """Return the action played in reverse."""
    return lambda u, c: pose_at(1 - u, -c)


# pairs of actions that show the same frames in opposite order, so that a mean over frames cannot distinguish them
_FIRST: dict[str, tuple[str, PoseAt]] = {
    "sitting down": ("standing up", sitting_down),
    "raising both arms": ("lowering both arms", raising_both_arms),
    "opening both arms": ("closing both arms", lambda u, c: _arms_from_side(1 - once(u))),
    "lifting a box": ("putting down a box", lifting_a_box),
    "falling down": ("getting up", falling_down),
    "waving in": ("waving off", lambda u, c: _beckoning(_sawtooth(c / 2))),  # faster motion would need more frames
}
PAIRS: tuple[tuple[str, str], ...] = tuple((first, second) for first, (second, _) in _FIRST.items())
ORDERED: dict[str, PoseAt] = {
    **{first: pose_at for first, (_, pose_at) in _FIRST.items()},
    **{second: _reverse(pose_at) for second, pose_at in _FIRST.values()},
}
IN_PLACE: dict[str, PoseAt] = _REPEATED | ORDERED
