"""Recording rules, alerts and the dashboard: checked by promtool, and against the metrics that the server has."""

import re
import shutil
import subprocess

import pytest
import yaml

from serve.jobs.metrics import JobMetrics
from serve.metrics import Metrics
from tests.bench.dashboard_bench import RULES, dashboard_queries
from tests.running_server import ROOT

NAME = re.compile(r"\b(?:actserve|process)_[a-z0-9_]+\b")
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian package prometheus)"
)


def run_promtool(*arguments: str) -> None:
    result = subprocess.run(["promtool", *arguments], cwd=RULES, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.fixture(scope="module")
def sample_names() -> set[str]:
    """Every name under which Prometheus stores a sample of the server."""
    metrics = Metrics()
    JobMetrics(metrics.registry)
    suffixes = {
        "counter": ("_total",), "info": ("_info",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",),
    }  # fmt: skip
    return {family.name + suffix for family in metrics.registry.collect() for suffix in suffixes[family.type]}


@needs_promtool
def test_promtool_accepts_the_rules() -> None:
    run_promtool("check", "rules", "recording.yml", "alerts.yml")


@needs_promtool
def test_each_alert_fires_when_it_should() -> None:
    run_promtool("test", "rules", "alerts_test.yml")


def test_each_alert_has_a_test_and_an_entry_in_the_documentation() -> None:
    alerts = {
        rule["alert"] for group in yaml.safe_load((RULES / "alerts.yml").read_text())["groups"]
        for rule in group["rules"]
    }  # fmt: skip
    tested = {
        case["alertname"] for test in yaml.safe_load((RULES / "alerts_test.yml").read_text())["tests"]
        for case in test["alert_rule_test"] if case["exp_alerts"]
    }  # fmt: skip
    assert tested == alerts
    documented = set(re.findall(r"`(Actserve\w+)`", (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")))
    assert documented == alerts


@pytest.mark.parametrize("name", ["recording.yml", "alerts.yml"])
def test_rules_use_metrics_of_the_server(name: str, sample_names: set[str]) -> None:
    groups = yaml.safe_load((RULES / name).read_text())["groups"]
    used = {
        found for group in groups for rule in group["rules"] for found in NAME.findall(without_records(rule["expr"]))
    }
    assert used
    assert used <= sample_names


def test_the_dashboard_uses_metrics_of_the_server(sample_names: set[str]) -> None:
    used = {name for _, query in dashboard_queries() for name in NAME.findall(query)}
    assert used <= sample_names
    assert not [query for _, query in dashboard_queries() if "$" in query]


def without_records(expression: str) -> str:
    """Return an expression without the names of recording rules, which contain colons."""
    return re.sub(r"\b\w+:[\w:]+", "", expression)
