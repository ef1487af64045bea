"""Errors of the export commands."""

from training.errors import InputError, WorkError


class ExportError(WorkError):
    """The model cannot be exported; nothing was published."""


class ExportInputError(ExportError, InputError):
    """The input of an export command is invalid."""


class ParityError(ExportError):
    """The exported graphs differ from torch by more than the tolerance; nothing was published."""


class SignatureError(ExportInputError):
    """Published versions of this name have different input or output tensors; the model needs a new name."""
