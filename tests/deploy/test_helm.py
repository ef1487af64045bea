"""The Helm chart: its golden manifests, the schemas of Kubernetes, and the settings that it gives to the server.

python -m tests.deploy.test_helm

writes the golden files again. Values of the cases are in `helm/*.values.yaml`.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from serve.environment import load_settings
from tests.running_server import ROOT

CHART = ROOT / "deploy" / "helm" / "actserve"
FOLDER = Path(__file__).parent / "helm"
CASES = sorted(path.name.removesuffix(".values.yaml") for path in FOLDER.glob("*.values.yaml"))
KUBERNETES_VERSIONS = ("1.30", "1.34")
HELM = shutil.which("helm", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
needs_helm = pytest.mark.skipif(HELM is None, reason="helm is not installed")


def render(case: str) -> str:
    """Return the manifests of a case."""
    return run_helm(
        "template", "actions", str(CHART), "--namespace", "video", "-f", str(FOLDER / f"{case}.values.yaml")
    )


def run_helm(*arguments: str) -> str:
    result = subprocess.run([str(HELM), *arguments], capture_output=True, text=True)
    if result.returncode:
        raise ValueError(result.stderr)
    return result.stdout


def manifests(case: str) -> list[dict[str, Any]]:
    text = (FOLDER / f"{case}.yaml").read_text(encoding="utf-8")
    return [document for document in yaml.safe_load_all(text) if document]


def pod_of(case: str) -> dict[str, Any]:
    (deployment,) = [item for item in manifests(case) if item["kind"] == "Deployment"]
    pod: dict[str, Any] = deployment["spec"]["template"]["spec"]
    return pod


@needs_helm
@pytest.mark.parametrize("case", CASES)
def test_the_golden_manifests_are_what_the_chart_renders(case: str) -> None:
    assert render(case) == (FOLDER / f"{case}.yaml").read_text(encoding="utf-8"), "run python -m tests.deploy.test_helm"


@needs_helm
def test_helm_accepts_the_chart() -> None:
    run_helm("lint", "--strict", str(CHART))


@needs_helm
@pytest.mark.parametrize(
    "value",
    [
        "image.digest=sha256:12", "replicas=0", "models.source=ftp", "models.source=download", "ingress.enabled=true",
        "settings.MODEL=x", "settings.SERVE_STORE_URL=x", "triton.url=triton", "autoscaling.cpu=101", "replica=2",
    ],
)  # fmt: skip
def test_the_values_schema_refuses(value: str) -> None:
    with pytest.raises(ValueError, match="schema"):
        run_helm("template", "x", str(CHART), "--set", value)


@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
@pytest.mark.parametrize("case", CASES)
def test_kubernetes_accepts_the_manifests(case: str, version: str) -> None:
    documents = [item for item in manifests(case) if item["kind"] != "ServiceMonitor"]  # not part of Kubernetes
    assert documents
    for document in documents:
        kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize("case", CASES)
def test_the_server_accepts_its_variables(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (container,) = pod_of(case)["containers"]
    for item in container["env"]:
        if item["name"].startswith("SERVE_"):
            monkeypatch.setenv(item["name"], item["value"].replace("$(POD_IP)", "10.0.0.7"))
    settings = load_settings({})
    assert settings.auth.mode == "keys"
    assert settings.engine == ("triton" if case == "full" else "auto")
    assert {"localhost", "10.0.0.7"} <= set(settings.http.hosts)
    assert ("actions.example" in settings.http.hosts) == (case == "full")


@pytest.mark.parametrize("case", CASES)
def test_pods_are_restricted(case: str) -> None:
    pod = pod_of(case)
    assert pod["enableServiceLinks"] is False
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    for container in [*pod["containers"], *pod.get("initContainers", [])]:
        security = container["securityContext"]
        assert security["readOnlyRootFilesystem"] is True
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}
        written = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
        assert "/tmp" in written


if __name__ == "__main__":
    for name in CASES:
        (FOLDER / f"{name}.yaml").write_text(render(name), encoding="utf-8")
