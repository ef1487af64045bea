"""The demo world: rendered from seeds, train and test apart, held-out combinations never shown."""

import csv
from pathlib import Path

import av
import numpy as np
import pytest

from serve.contract import PreprocessContract
from tests.training.lists import read_rows
from training.config import ConfigError
from training.demo.actions import PAIRS
from training.demo.captions import COLOURS, DIRECTIONS, combinations, held_out, seen
from training.demo.dataset import RenderedClips
from training.demo.phrases import PhraseBank
from training.demo.scenes import TEXTURES, draw_scene, make_scene
from training.demo.videos import render_video, shuffle_pieces, write_videos

RULE = PreprocessContract(
    image_size=32, resize="shortest_side", short_side=32, interpolation="pillow_bicubic", size_rounding="truncate",
    crop_rounding="half_even", mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25),
)  # fmt: skip


def test_the_vocabulary_is_large_and_every_part_of_it_is_trained() -> None:
    assert len(combinations()) >= 150
    assert len({item.action for item in combinations()}) >= 20
    assert len({item.label for item in combinations()}) == len(combinations())
    assert {item.activity for item in seen()} == {item.activity for item in combinations()}
    assert {item.colour for item in seen()} == set(COLOURS)
    assert {item.direction for item in seen()} == {"", *DIRECTIONS}
    assert held_out() and not held_out() & set(seen())


def test_training_never_draws_a_held_out_combination() -> None:
    clips = RenderedClips(num_frames=2, rule=RULE, first_seed=0)
    sampled = {clips.label(clips.clip(seed)[1]) for seed in range(60)}
    assert len(sampled) > 30
    assert not sampled & held_out()
    rows, targets = PhraseBank(seed=0).tasks["label"]
    assert rows == slice(0, len(seen())) and len(targets) == len(seen())


def test_a_seed_gives_the_same_video_and_worlds_differ() -> None:
    shown = combinations()[0]
    pictures = [draw_scene(make_scene(shown, world, 5, short_side=64), 0.3) for world in ("train", "train", "test")]
    assert np.array_equal(pictures[0], pictures[1])
    assert pictures[0].shape != pictures[2].shape or not np.array_equal(pictures[0], pictures[2])
    assert not set(TEXTURES["train"]) & set(TEXTURES["test"])


@pytest.mark.parametrize("shown", combinations()[::6], ids=lambda item: item.activity)
def test_every_action_draws_at_any_time(shown) -> None:  # type: ignore[no-untyped-def]
    scene = make_scene(shown, "test", 3, short_side=64)
    first, last = draw_scene(scene, 0.0), draw_scene(scene, 1.0)
    assert first.dtype == np.uint8 and first.shape == last.shape
    assert not np.array_equal(first, last)


def test_a_travelling_figure_moves_its_way() -> None:
    for shown in (item for item in combinations() if item.direction):
        scene = make_scene(shown, "test", 11, short_side=64)
        assert (scene.travel < 0) is (shown.direction == "left")


def test_shuffling_keeps_every_frame() -> None:
    frames = [np.full((2, 2, 3), i, np.uint8) for i in range(21)]
    mixed = shuffle_pieces(frames, num_pieces=8, seed=0)
    assert sorted(int(frame[0, 0, 0]) for frame in mixed) == list(range(21))
    assert [int(frame[0, 0, 0]) for frame in mixed] != list(range(21))


def test_the_index_says_what_the_files_hold(tmp_path: Path) -> None:
    index = write_videos(tmp_path, count=3, split="heldout", seed=40, size=64)
    with index.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 3
    for row in rows:
        assert row["label"] in {item.label for item in held_out()}
        with av.open(str(tmp_path / row["path"])) as container:
            frames = sum(1 for _ in container.decode(video=0))
        assert frames == int(row["num_frames"])
        again = render_video(
            next(item for item in held_out() if item.label == row["label"]), "test", int(row["seed"]), size=64
        )
        assert len(again.frames) == frames and again.fps == int(row["fps"])


def test_pairs_and_directions_come_apart_and_are_named_by_activity(tmp_path: Path) -> None:
    shown = {}
    for split in ("pairs", "directions"):
        index = write_videos(tmp_path / split, count=4, split=split, seed=50, size=48, words="activity")
        with index.open(newline="") as stream:
            shown[split] = [(row["label"], row["direction"]) for row in csv.DictReader(stream)]
        assert len(read_rows("csv", index)) == 4, "a list of the other commands"
    actions = {action for pair in PAIRS for action in pair}
    assert all(label in actions and not direction for label, direction in shown["pairs"])
    assert all(label.endswith(f"to the {direction}") for label, direction in shown["directions"])


def test_unknown_words_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="one of label, activity"):
        write_videos(tmp_path, count=1, split="pairs", seed=0, size=64, words="seed")


def test_an_unknown_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="one of train, seen, heldout"):
        write_videos(tmp_path, count=1, split="test", seed=0, size=64)
