"""What stops an evaluation or a comparison."""

from training.errors import InputError


class EvaluationError(InputError):
    """An evaluation that cannot be done as asked: the message says what was found and what is needed."""
