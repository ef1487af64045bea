"""Escape cells of CSV files that spreadsheet programs would evaluate as formulas.

A program that opens a CSV file evaluates cells that begin with one of `= + - @`, a tab or a carriage return. An
apostrophe in front makes such a cell text.
"""

import re

ESCAPED = re.compile(r"'+[=+\-@\t\r]")
FORMULA = re.compile(r"'*[=+\-@\t\r]")


def escape_formula(cell: str) -> str:
    """Return the cell with an apostrophe in front if a spreadsheet program would evaluate it.

    >>> escape_formula("=1+1"), escape_formula("'-x"), escape_formula("push-up")
    ("'=1+1", "''-x", 'push-up')
    """
    return f"'{cell}" if FORMULA.match(cell) else cell


def unescape_formula(cell: str) -> str:
    """Undo `escape_formula`.

    >>> unescape_formula("'=1+1"), unescape_formula("''-x"), unescape_formula("'quoted'")
    ('=1+1', "'-x", "'quoted'")
    """
    return cell[1:] if ESCAPED.match(cell) else cell
