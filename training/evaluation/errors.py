"""What stops an evaluation or a comparison."""


class EvaluationError(Exception):
    """Something the caller can mend: the message says what was found and what is needed."""
