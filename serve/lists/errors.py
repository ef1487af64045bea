"""The error of annotation files."""


class AnnotationError(ValueError):
    """A list of videos, a class list or a folder that is not understood; the message names the file and the line."""
