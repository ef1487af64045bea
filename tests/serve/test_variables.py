"""Variables that nothing reads are refused, and values that cannot be used are named."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from serve.environment import known_variables, load_settings
from serve.errors import ConfigurationError
from serve.variables import reject_unknown_variables

ROOT = Path(__file__).resolve().parents[2]
BOTH = ("SERVE_", "ACTSERVE_")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("SERVE_PROT", "80", "did you mean SERVE_PORT?"),
        ("SERVE_MAX_CANDIDATE_LABELS", "1", "did you mean SERVE_LIMITS__MAX_CANDIDATE_LABELS?"),
        ("SERVE_BATCH_MAX_VIEWS", "4", "did you mean SERVE_BATCH__MAX_VIEWS?"),
        ("SERVE_BATCH__MAX_VIEW", "4", "did you mean SERVE_BATCH__MAX_VIEWS?"),
        ("serve_prot", "80", "did you mean SERVE_PORT?"),
        ("ACTSERVE_SERVR", "http://a", "did you mean ACTSERVE_SERVER?"),
        ("ACTSERVE_PORT", "80", "did you mean SERVE_PORT?"),
        ("SERVE_XYZZY_QUUX", "1", "docs/settings.md"),
        ("SERVE_PORT", "tcp://10.0.0.1:80", "service named 'serve'"),
        ("SERVE_SERVICE_HOST", "10.0.0.1", "enableServiceLinks: false"),
        ("SERVE_SERVICE_PORT", "80", "enableServiceLinks: false"),
        ("SERVE_SERVICE_PORT_HTTP", "80", "enableServiceLinks: false"),
        ("SERVE_PORT_8080_TCP", "tcp://10.0.0.1:8080", "rename the service"),
        ("SERVE_PORT_8080_TCP_ADDR", "10.0.0.1", "rename the service"),
        ("SERVE_PORT_53_UDP_PROTO", "udp", "rename the service"),
        ("SERVE_MY_CANARY_PORT", "tcp://10.0.0.1:80", "service named 'serve-my-canary'"),
        ("SERVE_V2_SERVICE_HOST", "10.0.0.1", "service named 'serve-v2'"),
        ("ACTSERVE_PORT", "tcp://10.0.0.1:80", "service named 'actserve'"),
        ("ACTSERVE_SERVICE_HOST", "10.0.0.1", "service named 'actserve'"),
    ],
)
def test_a_variable_nothing_reads_is_refused(name: str, value: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        reject_unknown_variables(
            *BOTH, known=known_variables(), environment={name: value, "PATH": "/bin", "SERVER_PORT": "80"}
        )
    assert name in caught.value.message
    assert words in caught.value.message


def test_known_variables_are_left_alone() -> None:
    known = {"SERVE_PORT": "80", "serve_host": "::", "SERVE_BATCH": "{}", "SERVE_LIMITS__MAX_TEMPLATES": "3"}
    reject_unknown_variables(
        *BOTH, known=known_variables(), environment={**known, "ACTSERVE_SERVER": "http://a", "OBSERVE_PORT": "tcp://a"}
    )
    reject_unknown_variables("ACTSERVE_", environment={"SERVE_PROT": "80"})


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("SERVE_PORT", "eighty", ['SERVE_PORT is "eighty"', "valid integer"]),
        ("SERVE_PORT", "70000", ['SERVE_PORT is "70000"', "65535"]),
        ("SERVE_PORT", "", ['SERVE_PORT is ""', "valid integer"]),
        ("SERVE_ENGINE", "cuda", ['SERVE_ENGINE is "cuda"', "'onnxruntime-cuda'"]),
        ("SERVE_BATCH__MAX_VIEWS", "0", ['SERVE_BATCH__MAX_VIEWS is "0"', "greater than or equal to 1"]),
        ("SERVE_BATCH", "{", ["SERVE_BATCH must be a JSON object"]),
        ("SERVE_BATCH", '{"max_view": 1}', ["SERVE_BATCH__MAX_VIEW", "did you mean SERVE_BATCH__MAX_VIEWS?"]),
    ],
)
def test_a_value_that_cannot_be_used_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: list[str]
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as caught:
        load_settings({})
    assert all(word in caught.value.message for word in words), caught.value.message


def test_a_value_of_the_command_line_is_named_by_its_option() -> None:
    with pytest.raises(ConfigurationError, match='--port is "-1"'):
        load_settings({"port": -1})


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("SERVE_LIMITS", "x", "SERVE_LIMITS must be a JSON object"),
        ("SERVE_LIMITS", "null", "SERVE_LIMITS must be a JSON object"),
        ("SERVE_LIMITS", '{"max_templates": NaN}', "NaN is not valid JSON"),
        ("SERVE_LIMITS", '{"max_templates": 1, "max_templates": 2}', "occurs twice"),
        ("SERVE_OUTGOING__PORTS", "443,8443", 'SERVE_OUTGOING__PORTS is "443,8443": it must be a JSON list'),
        ("serve_outgoing__ports", "443", 'serve_outgoing__ports is "443": it must be a JSON list'),
        ("SERVE_DECODE__MAX_MEMORY_BYTES", "9" * 30, "SERVE_DECODE__MAX_MEMORY_BYTES is"),
    ],
)
def test_a_value_of_the_wrong_form_names_its_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as caught:
        load_settings({})
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("SERVE_JOBS__WEBHOOK_SECRET", "whsec_hidden"), ("SERVE_JOBS", '{"webhook_secret": "whsec_hidden"'),
     ("SERVE_JOBS", '{"webhook_secret": "whsec_hidden"}')],
)  # fmt: skip
def test_a_message_shows_no_secret(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=name) as caught:
        load_settings({})
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "variables"),
    [
        (["serve"], {"SERVE_PROT": "80"}),
        (["serve.cli.main", "serve"], {"SERVE_PORT": "tcp://10.0.0.1:80"}),
        (["training", "check", "x"], {"ACTSERVE_SERVR": "http://a"}),
        (["export", "verify", "x"], {"ACTSERVE_SERVR": "http://a"}),
    ],
    ids=["serve", "actserve serve", "training", "export"],
)
def test_no_command_starts_with_a_variable_nothing_reads(words: list[str], variables: dict[str, str]) -> None:
    if words[0] == "serve.cli.main":
        command = [sys.executable, "-c", "from serve.cli.main import main; main()", *words[1:]]
    else:
        command = [sys.executable, "-m", *words]
    left = subprocess.run(command, cwd=ROOT, env={**os.environ, **variables}, capture_output=True, text=True)
    assert left.returncode == 2, left.stderr
    assert next(iter(variables)) in left.stderr
    assert "Traceback" not in left.stderr
