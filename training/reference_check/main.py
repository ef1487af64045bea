"""`python -m training reference-check DIR`: compare this project with arrays that the original systems computed."""

from pathlib import Path

from training.reference_check import end_to_end, losses, models, spatial, temporal, text
from training.reference_check.report import ReferenceReport

DOCUMENTATION = {"README.md"}  # files that contain nothing to check


def run(folder: Path) -> int:
    """Check all known files and print the report; return 1 if a tolerance is exceeded or there is nothing to check."""
    report = ReferenceReport()
    for module in (temporal, spatial, text, losses, models, end_to_end):
        module.check(folder, report)
    files = {path for path in folder.rglob("*") if path.is_file() and path.name not in DOCUMENTATION}
    report.not_checked += sorted(path.relative_to(folder).as_posix() for path in files - report.checked_files)
    report.show()
    return 0 if report.passed else 1
