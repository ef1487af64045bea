"""`python -m training reference-check DIR`: compare this project with arrays of the original systems."""

from pathlib import Path

from training.reference_check import end_to_end, losses, models, spatial, temporal, text
from training.reference_check.report import ReferenceReport

DOCUMENTS = {"README.md"}  # documentation


def run(folder: Path) -> int:
    """Check all known files and print the report; return 1 if a tolerance is exceeded or nothing was found."""
    report = ReferenceReport()
    for module in (temporal, spatial, text, losses, models, end_to_end):
        module.check(folder, report)
    files = {path for path in folder.rglob("*") if path.is_file() and path.name not in DOCUMENTS}
    report.not_checked += sorted(path.relative_to(folder).as_posix() for path in files - report.taken)
    report.show()
    return 0 if report.is_passed else 1
