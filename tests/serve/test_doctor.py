"""`actserve doctor` on installations that work and on broken ones."""

import json
from pathlib import Path

import pytest

from serve import doctor
from serve.cli.main import main
from serve.data_folder import database_path
from serve.repository import BUNDLED_REPOSITORY
from serve.settings import ServeSettings


def statuses(checks: list[doctor.Check]) -> dict[str, str]:
    return {check.name: check.status for check in checks}


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SERVE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("SERVE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("SERVE_MODEL", "demo")
    monkeypatch.setenv("SERVE_ENGINE", "onnxruntime-cpu")
    return tmp_path


def test_a_working_installation_is_healthy(environment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        main(["doctor", "--json"])
    document = json.loads(capsys.readouterr().out)
    assert exit_info.value.code == 0, document
    checks = {check["name"]: check for check in document["checks"]}
    assert document["healthy"]
    assert set(checks) == {"settings", "disk", "store", "clock", "models", "gpu", "triton", "engine"}
    assert "demo@1" in checks["models"]["detail"]
    assert checks["engine"]["detail"].startswith("demo@1 runs on onnxruntime-cpu")
    assert checks["triton"]["status"] == "skipped"
    assert not database_path(environment / "data").exists(), "doctor changes nothing"


def test_each_fault_is_named(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    database_path(data).write_bytes(b"this is no SQLite file" * 100)
    settings = ServeSettings(
        data_dir=data, repository=tmp_path, model="nosuch", engine="onnxruntime-cuda", cache_dir=tmp_path
    )
    assert doctor.examine(settings)[0].status == "ok"
    found = statuses(doctor.examine(settings))
    assert {found[name] for name in ("store", "models", "engine")} == {"failed"}
    if found["gpu"] != "ok":
        assert found["gpu"] == "failed"


def test_a_triton_server_that_does_not_respond_has_failed() -> None:
    settings = ServeSettings(engine="triton", repository=BUNDLED_REPOSITORY).model_copy(
        update={"triton": ServeSettings().triton.model_copy(update={"url": "127.0.0.1:9"})}
    )
    with pytest.raises(Exception, match="does not respond"):
        doctor.check_triton(settings)
