"""Errors of evaluations and comparisons."""

from training.errors import InputError


class EvaluationError(InputError):
    """The evaluation is not possible; the message says what was found and what is needed."""
