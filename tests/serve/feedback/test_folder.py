"""The folder of corrected clips: durable in order, swept after a death, bounded, erased for good."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import pytest

from serve.errors import ConfigurationError, FeedbackFull, UnknownFeedback
from serve.feedback.folder import Correction, FeedbackFolder
from serve.feedback.index import INDEX, Feedback, clip_path, read_index
from tests.running_server import ROOT

MP4 = "mov,mp4,m4a,3gp,3g2,mj2"


@pytest.fixture
def folder(tmp_path: Path) -> FeedbackFolder:
    return opened(tmp_path / "feedback")


def opened(path: Path, **limits: int) -> FeedbackFolder:
    made = FeedbackFolder(path, **{"max_bytes": 10_000, "max_clips": 100, **limits})
    made.open()
    return made


def clip(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "sent"
    path.write_bytes(content)
    return path


def add(folder: FeedbackFolder, tmp_path: Path, content: bytes, label: str = "waving") -> Feedback:
    return folder.add(clip(tmp_path, content), Correction(label=label), container=MP4)[0]


def always(row: Feedback) -> bool:
    return True


def files(folder: FeedbackFolder) -> set[str]:
    return {path.name for path in (folder.folder / "clips").iterdir()}


def test_a_clip_is_kept_as_it_came_under_a_name_of_the_server(folder: FeedbackFolder, tmp_path: Path) -> None:
    correction = Correction(
        label="waving", vocabulary="a@2", is_new_label=False, predicted="b", request_id="r", note="é\n\t"
    )
    row, is_new = folder.add(clip(tmp_path, b"video"), correction, container=MP4)
    assert is_new
    assert row.file == f"{row.feedback_id}.mp4"
    assert clip_path(folder.folder, row).read_bytes() == b"video"
    again = opened(folder.folder)
    assert list(again.rows()) == [row]
    assert {name: getattr(row, name) for name in vars(correction)} == vars(correction)
    assert folder.add(clip(tmp_path, b"x"), correction, container="something new")[0].file.isalnum()


def test_the_same_content_and_label_is_kept_once(folder: FeedbackFolder, tmp_path: Path) -> None:
    first = add(folder, tmp_path, b"video", "waving")
    again = folder.add(clip(tmp_path, b"video"), Correction(label="  Waving "), container=MP4)
    assert again == (first, False)
    other = add(folder, tmp_path, b"video", "clapping")
    assert files(folder) == {first.file, other.file}


@pytest.mark.parametrize(
    ("limits", "words"),
    [({"max_clips": 2}, "at most 2 are allowed"), ({"max_bytes": 11}, "11 allowed bytes")],
    ids=["clips", "bytes"],
)
def test_a_full_folder_keeps_nothing_more(tmp_path: Path, limits: dict[str, int], words: str) -> None:
    folder = opened(tmp_path / "feedback", **limits)
    kept = [add(folder, tmp_path, b"12345"), add(folder, tmp_path, b"54321")]
    with pytest.raises(FeedbackFull, match=words):
        add(folder, tmp_path, b"another")
    assert files(folder) == {row.file for row in kept}
    folder.remove(kept[0].feedback_id, is_visible=always)
    add(folder, tmp_path, b"other")


def test_what_is_erased_is_nowhere(folder: FeedbackFolder, tmp_path: Path) -> None:
    secret = add(folder, tmp_path, b"a face", "a secret label")
    kept = add(folder, tmp_path, b"other")
    folder.remove(secret.feedback_id, is_visible=always)
    assert files(folder) == {kept.file}
    everything = b"".join(path.read_bytes() for path in folder.folder.rglob("*") if path.is_file())
    assert b"a face" not in everything
    assert b"a secret label" not in everything
    for feedback_id in (secret.feedback_id, "../../etc/passwd"):
        with pytest.raises(UnknownFeedback):
            folder.remove(feedback_id, is_visible=always)
    assert [row.label for row in opened(folder.folder).rows()] == ["waving"]


def test_a_start_sweeps_what_a_death_has_left_and_nothing_else(folder: FeedbackFolder, tmp_path: Path) -> None:
    kept, lost = add(folder, tmp_path, b"one"), add(folder, tmp_path, b"two")
    clip_path(folder.folder, lost).unlink()
    clips = folder.folder / "clips"
    (clips / f"{'a' * 32}.mp4").write_bytes(b"renamed, its row never written")
    (clips / f"{'b' * 32}.partial").write_bytes(b"half")
    (clips / "mine.mp4").write_bytes(b"the operator's own")
    with (folder.folder / INDEX).open("ab") as stream:
        stream.write(b'not json\n[]\n{"feedback_id": 1}\n{"feedback_id": "cut')
    again = opened(folder.folder)
    assert list(again.rows()) == [kept]
    assert files(again) == {kept.file, "mine.mp4"}
    assert read_index(folder.folder) == ([kept], 0)


def test_a_row_after_a_cut_line_is_whole(folder: FeedbackFolder, tmp_path: Path) -> None:
    first = add(folder, tmp_path, b"one")
    with (folder.folder / INDEX).open("ab") as stream:
        stream.write(b'{"feedback_id": "cut')
    second = add(folder, tmp_path, b"two")
    assert read_index(folder.folder) == ([first, second], 1)


def test_a_row_of_an_earlier_version_is_read_and_belongs_to_no_key(folder: FeedbackFolder, tmp_path: Path) -> None:
    row = add(folder, tmp_path, b"one")
    earlier = {name: value for name, value in asdict(row).items() if name != "key_id"}
    (folder.folder / INDEX).write_text(json.dumps(earlier) + "\n")
    assert folder.rows() == [row] and row.key_id is None


def test_each_key_keeps_and_removes_its_own(folder: FeedbackFolder, tmp_path: Path) -> None:
    path = clip(tmp_path, b"one")
    rows = [
        folder.add(path, Correction(label="waving", key_id=key_id), container="avi")[0] for key_id in ("a", "b", "a")
    ]
    assert rows[0] == rows[2] != rows[1] and len(folder.rows()) == 2
    with pytest.raises(UnknownFeedback):
        folder.remove(rows[0].feedback_id, is_visible=lambda row: row.key_id == "b")
    assert len(folder.rows()) == 2


def test_a_row_that_points_elsewhere_is_no_row(folder: FeedbackFolder, tmp_path: Path) -> None:
    row = add(folder, tmp_path, b"one")
    index = folder.folder / INDEX
    index.write_text(index.read_text().replace(row.file, "../../sent"))
    assert read_index(folder.folder) == ([], 1)


def test_a_failed_write_leaves_nothing(folder: FeedbackFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = add(folder, tmp_path, b"one")
    before = (folder.folder / INDEX).read_bytes()
    calls: list[int] = []

    def fail_at_the_row(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 3:  # clip, folder of clips, row
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail_at_the_row)
    with pytest.raises(FeedbackFull, match="disk"):
        add(folder, tmp_path, b"two")
    assert (folder.folder / INDEX).read_bytes() == before
    assert files(folder) == {kept.file}


def test_writers_of_several_servers_lose_nothing(folder: FeedbackFolder, tmp_path: Path) -> None:
    servers = [folder, opened(folder.folder), opened(folder.folder)]

    def write(number: int) -> str:
        path = tmp_path / f"clip {number}"
        path.write_bytes(str(number).encode())
        row, _ = servers[number % 3].add(path, Correction(label=str(number // 2)), container=MP4)
        if number % 4 == 0:
            servers[(number + 1) % 3].remove(row.feedback_id, is_visible=always)
        return row.feedback_id

    with ThreadPoolExecutor(6) as threads:
        ids = list(threads.map(write, range(48)))
    left = {feedback_id for number, feedback_id in enumerate(ids) if number % 4}
    for server in servers:
        assert {row.feedback_id for row in server.rows()} == left
    assert len(files(folder)) == len(left)


WRITER = textwrap.dedent("""
    import sys
    from pathlib import Path
    from serve.feedback.folder import Correction, FeedbackFolder

    base = Path(sys.argv[1])
    folder = FeedbackFolder(base / "feedback", max_bytes=10**9, max_clips=10**6)
    folder.open()
    for number in range(10**6):
        clip = base / "clip"
        clip.write_bytes(sys.argv[2].encode() + number.to_bytes(8, "big") * 4000)
        row, _ = folder.add(clip, Correction(label=f"label {number}"), container="avi")
        if number % 3 == 2:
            folder.remove(row.feedback_id, is_visible=always)
            print("-", row.feedback_id, flush=True)
        else:
            print("+", row.feedback_id, flush=True)
""")


def test_a_killed_writer_loses_nothing_it_acknowledged_and_no_row_lacks_its_clip(tmp_path: Path) -> None:
    kept: set[str] = set()
    erased: set[str] = set()
    for turn in range(6):
        command = [sys.executable, "-c", WRITER, str(tmp_path), str(turn)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(5 + 7 * turn)]
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.readlines()
        process.wait()
        process.stdout.close()
        kept |= {line.split()[1] for line in lines if line.startswith("+") and line.endswith("\n")}
        erased |= {line.split()[1] for line in lines if line.startswith("-") and line.endswith("\n")}
        rows, _ = read_index(tmp_path / "feedback")
        assert not erased & {row.feedback_id for row in rows}
        assert all(clip_path(tmp_path / "feedback", row).is_file() for row in rows)
        assert kept <= {row.feedback_id for row in rows}
    folder = opened(tmp_path / "feedback", max_bytes=10**9, max_clips=10**6)
    assert files(folder) == {row.file for row in folder.rows()}
    assert len(folder.rows()) - len(kept) <= 6  # at most one a death: kept, its acknowledgement lost


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_stops_the_start(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ConfigurationError, match="cannot be used"):
        opened(tmp_path / "feedback")


def test_a_file_in_the_place_of_the_folder_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "feedback").write_text("")
    with pytest.raises(ConfigurationError, match="cannot be used"):
        opened(tmp_path / "feedback")


def test_an_index_is_readable_by_other_programs(folder: FeedbackFolder, tmp_path: Path) -> None:
    row = add(folder, tmp_path, b"one", "été 🏖")
    (line,) = (folder.folder / INDEX).read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["label"] == row.label == "été 🏖"
    assert "été 🏖" in line
