"""The error that reading annotation files raises."""


class AnnotationError(ValueError):
    """A list of videos, class list or data set folder is invalid; the message states the file and the line."""
