"""`python -m training reference-check DIR`: this project's code on the arrays of the original systems."""

from pathlib import Path

from training.reference_check import models, temporal, text
from training.reference_check.report import Report

MODEL_FOLDERS = ("actionclip", "xclip", "hf_xclip", "keys")  # every file in them is `models`'


def run(folder: Path) -> int:
    """Check every known file, show the report; 1 if a group exceeds its tolerance or nothing was found."""
    report = Report()
    for module in (temporal, text, models):
        module.check(folder, report)
    known = {*temporal.CHECKED, *text.CHECKED}
    report.not_checked = [
        name
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and (name := path.relative_to(folder).as_posix()) not in known
        and path.suffix in (".json", ".npz")
        and not (name.startswith(MODEL_FOLDERS) and not name.endswith("param_groups.json"))
    ]
    report.show()
    return 0 if report.is_passed else 1
