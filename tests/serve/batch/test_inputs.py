"""What the arguments of a batch stand for."""

import zipfile
from pathlib import Path

import fsspec
import pyarrow as pa
import pytest
from pyarrow import parquet

from serve.batch.inputs import base_name, list_inputs, local_path, shown_name
from serve.batch.remote import download
from serve.errors import FetchFailed, InvalidOption


@pytest.fixture
def videos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("a.mp4", "below/b.mkv", "below/notes.md", ".hidden/c.mp4"):
        path = tmp_path / "videos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    monkeypatch.chdir(tmp_path)
    return tmp_path / "videos"


def names(*arguments: str, column: str | None = None, standard_input: tuple[str, ...] = ()) -> list[str]:
    return list_inputs(arguments, column=column, standard_input=standard_input)


def test_files_folders_and_patterns_are_absolute_and_unique(videos: Path) -> None:
    expected = [str(videos / "a.mp4"), str(videos / "below" / "b.mkv")]
    assert names("videos") == expected
    assert names("videos/a.mp4", "videos/../videos", "videos/**/*.mkv") == expected


def test_a_list_may_name_missing_files_folders_and_urls(videos: Path) -> None:
    Path("list.txt").write_text("absent.mp4\n\nvideos/below\nmemory://bucket/a b.mp4\n", encoding="utf-8")
    expected = [str(videos.parent / "absent.mp4"), str(videos / "below" / "b.mkv"), "memory://bucket/a b.mp4"]
    assert names("list.txt") == expected
    assert names("-", standard_input=("absent.mp4", "videos/below")) == expected[:2]
    Path("list.lst").write_bytes(b"absent.mp4\0new\nline.mp4\0")
    assert names("list.lst") == [expected[0], str(videos.parent / "new\nline.mp4")]


def test_a_table_of_paths(videos: Path) -> None:
    paths = pa.array(["videos/a.mp4", None, "absent.mp4"]).dictionary_encode()
    parquet.write_table(
        pa.table({"id": [1, 2, 3], "path": paths.cast(pa.string()), "other": ["x", "y", "z"]}), "t.parquet"
    )
    expected = [str(videos / "a.mp4"), str(videos.parent / "absent.mp4")]
    assert names("t.parquet") == names("t.parquet", column="path") == expected
    assert names("t.parquet", column="other")[0] == str(videos.parent / "x")
    with pytest.raises(InvalidOption, match="no text column 'id'; its text columns are 'path', 'other'"):
        names("t.parquet", column="id")
    parquet.write_table(pa.table({"where": pa.array(["absent.mp4"], pa.large_string())}), "one.parquet")
    assert names("one.parquet") == expected[1:]


def test_urls_are_listed_and_read_through_fsspec(videos: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe({"/clips/a.mp4": b"a", "/clips/deep/b.mp4": b"b", "/clips/notes.md": b""})
    assert names("memory://clips/") == ["memory:///clips/a.mp4", "memory:///clips/deep/b.mp4"]
    assert names("memory://clips/*.mp4") == ["memory:///clips/a.mp4"]
    with zipfile.ZipFile("clips.zip", "w") as archive:
        archive.writestr("in/a.mp4", b"zipped")
    (packed,) = names("zip://**/*.mp4::clips.zip")
    assert base_name(packed) == "a.mp4"
    for name, content in (
        ("memory:///clips/deep/b.mp4", b"b"),
        (packed, b"zipped"),
        (f"file://{videos}/a.mp4", b"a.mp4"),
    ):
        download(name, Path("target"), max_bytes=6, seconds=60)
        assert Path("target").read_bytes() == content
    with pytest.raises(FetchFailed, match="larger than 5 bytes"):
        download(packed, Path("target"), max_bytes=5, seconds=60)
    with pytest.raises(FetchFailed, match="cannot be read"):
        download("memory:///absent.mp4", Path("target"), max_bytes=5, seconds=60)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("absent.mp4",), "absent.mp4: there is no such file"),
        (("absent.txt",), "absent.txt cannot be read"),
        (("absent.parquet",), "absent.parquet: there is no such file"),
        (("empty.txt",), "the lists contain no inputs"),
        (("text.parquet",), "text.parquet cannot be read as Parquet"),
        (("nosuch://bucket/a.mp4",), "nosuch"),
        (("memory://nothing/",), "matches no file with a video suffix"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)  # fmt: skip
def test_an_argument_that_stands_for_nothing_is_an_error(
    videos: Path, arguments: tuple[str, ...], message: str
) -> None:
    Path("empty.txt").write_text("\n")
    Path("text.parquet").write_text("no table")
    with pytest.raises(InvalidOption, match=message):
        names(*arguments)


def test_a_column_needs_a_table(videos: Path) -> None:
    with pytest.raises(InvalidOption, match="--column"):
        names("videos", column="path")


def test_a_name_that_is_not_utf8_is_escaped_and_still_opens(tmp_path: Path) -> None:
    path = local_path(str(tmp_path / "caf\udce9.mp4"))
    path.write_bytes(b"x")
    (name,) = names(str(tmp_path))
    assert local_path(name).read_bytes() == b"x"
    assert shown_name(name).endswith("/caf\\udce9.mp4")
