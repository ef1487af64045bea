"""Print the table of attempts inside of a decode child, without and with isolation, and the layers that refuse each.

python -m tests.isolation
"""

import tempfile
from pathlib import Path

from serve.video.isolation.layers import LAYERS
from tests.isolation.attempts import ALLOWED, ATTEMPTS
from tests.isolation.children import prepare_target, required_layers, run_attempts


def main() -> None:
    """Run all attempts with no layer, with each layer alone, and with all layers; print a Markdown table."""
    with tempfile.TemporaryDirectory() as folder, prepare_target(Path(folder)) as target:
        without, _ = run_attempts(target, layers=())
        isolated, report = run_attempts(target, layers=LAYERS)
        alone = {name: run_attempts(target, layers=(*required_layers(name), name))[0] for name in LAYERS}
    print(f"Layers: {', '.join(report.reached)}. Missing: {report.describe_missing() or 'none'}.\n")
    print("| attempt | without layers | with all layers | layers that refuse it alone |")
    print("| --- | --- | --- | --- |")
    for name in ATTEMPTS:
        refusing = [
            layer
            for layer, outcomes in alone.items()
            if outcomes[name] != ALLOWED
            and all(alone[required][name] == ALLOWED for required in required_layers(layer))
        ]
        is_always = without[name] != ALLOWED
        reasons = "clean environment and resource limits, always set" if is_always else ", ".join(refusing)
        print(f"| {name} | {without[name]} | {isolated[name]} | {reasons} |")


if __name__ == "__main__":
    main()
