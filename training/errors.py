"""The two kinds of errors that end a command of training or export; each has its own exit status."""


class InputError(Exception):
    """The input is invalid and nothing was done; the message says what was found and what is allowed."""


class WorkError(Exception):
    """The work failed after it started, or its result is negative."""
