"""Apply faults to running servers and print a table of what they do.

python -m tests.chaos [WORD]    # only the cases whose name contains the word
"""

import sys
import tempfile
from pathlib import Path

from tests.chaos.cases import CASES
from tests.chaos.world import Skipped


def main() -> None:
    """Run the cases, print a Markdown table, and exit with 1 if an expectation was not met."""
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    num_failures = 0
    print("| fault | state | recovery | result |")
    print("| --- | --- | --- | --- |")
    for name, case in CASES.items():
        if word not in name:
            continue
        with tempfile.TemporaryDirectory() as folder:
            try:
                outcome = case(Path(folder))
            except Skipped as reason:
                print(f"| {name} | | | skipped: {reason} |", flush=True)
                continue
        num_failures += bool(outcome.failures)
        result = "as expected" if not outcome.failures else f"FAILED: {'; '.join(outcome.failures)}"
        print(f"| {name} | {outcome.state} | {outcome.recovery} | {result} |", flush=True)
    sys.exit(1 if num_failures else 0)


if __name__ == "__main__":
    main()
