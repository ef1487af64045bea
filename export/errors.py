"""Errors of export; each message is addressed to the person who runs the command."""

from training.errors import InputError, WorkError


class ExportError(WorkError):
    """The model cannot be exported; nothing was published."""


class ExportInputError(ExportError, InputError):
    """The input of an export command cannot be used."""


class ParityError(ExportError):
    """The exported graphs differ from torch by more than the tolerance; nothing was published."""


class SignatureError(ExportInputError):
    """Existing versions of this name have other input or output tensors; the model needs a new name."""
