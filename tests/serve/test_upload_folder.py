"""The folder of uploads: swept after a killed server, recreated when it was deleted, and clear errors of its disk."""

import subprocess
import sys
from pathlib import Path

import pytest

from serve.errors import DiskFull, FolderUnavailable
from serve.upload_folder import PREFIX, OwnUploadFolder, find_disk_fault, translate_disk_errors

KILLED_SERVER = """
import os, signal, sys
from pathlib import Path
from serve.upload_folder import OwnUploadFolder
folder = OwnUploadFolder(Path(sys.argv[1]))
folder.new().write_bytes(b"half of a video")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_uploads_of_a_killed_server_are_deleted_and_those_of_a_running_one_kept(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED_SERVER, str(tmp_path)], check=False)
    (left,) = tmp_path.glob(f"{PREFIX}*")
    assert any(path.read_bytes() == b"half of a video" for path in left.iterdir())
    running = OwnUploadFolder(tmp_path)
    assert not left.exists()
    assert running.num_swept == 1
    upload = running.new()
    upload.write_bytes(b"arriving")
    other = OwnUploadFolder(tmp_path)
    assert upload.exists()
    assert other.num_swept == 0
    running.close()
    other.close()
    assert list(tmp_path.iterdir()) == []


def test_foreign_folders_and_links_are_not_swept(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "in-use").touch()
    (tmp_path / f"{PREFIX}link").symlink_to(tmp_path / "precious")
    (tmp_path / f"{PREFIX}without-lock").mkdir()
    OwnUploadFolder(tmp_path).close()
    assert (tmp_path / "precious" / "in-use").exists()
    assert (tmp_path / f"{PREFIX}without-lock").exists()


def test_a_deleted_folder_is_created_again(tmp_path: Path) -> None:
    own = OwnUploadFolder(tmp_path)
    (own.folder / "in-use").unlink()
    own.folder.rmdir()
    own.new().write_bytes(b"x")
    assert OwnUploadFolder(tmp_path).num_swept == 0  # it is locked again
    own.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the platform has no /dev/full")
def test_a_full_disk_is_named() -> None:
    with pytest.raises(DiskFull, match="the disk of the uploads is full"), translate_disk_errors("uploads"):
        Path("/dev/full").write_bytes(b"x")


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    message = "folder of the uploads cannot be written: No such file"
    with pytest.raises(FolderUnavailable, match=message), translate_disk_errors("uploads"):
        (tmp_path / "gone" / "file").write_bytes(b"x")
    assert find_disk_fault(tmp_path, "database") is None
    assert "database cannot be written" in str(find_disk_fault(tmp_path / "gone", "database"))
    assert list(tmp_path.iterdir()) == []
