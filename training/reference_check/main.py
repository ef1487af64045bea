"""`python -m training reference-check DIR`: this project's code on the arrays of the original systems."""

from pathlib import Path

from training.reference_check import end_to_end, losses, models, spatial, temporal, text
from training.reference_check.report import ReferenceReport

DOCUMENTS = {"README.md"}  # describe the arrays


def run(folder: Path) -> int:
    """Check every known file, show the report; 1 if a group exceeds its tolerance or nothing was found."""
    report = ReferenceReport()
    for module in (temporal, spatial, text, losses, models, end_to_end):
        module.check(folder, report)
    files = {path for path in folder.rglob("*") if path.is_file() and path.name not in DOCUMENTS}
    report.not_checked += sorted(path.relative_to(folder).as_posix() for path in files - report.taken)
    report.show()
    return 0 if report.is_passed else 1
