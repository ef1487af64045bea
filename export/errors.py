"""The errors of export: each is a sentence for the person who runs the command."""

from training.errors import InputError, WorkError


class ExportError(WorkError):
    """A model that cannot be exported; nothing was published."""


class ExportInputError(ExportError, InputError):
    """What was given to a command of export cannot be used."""


class ParityError(ExportError):
    """The exported graphs do not give torch's numbers; nothing was published."""


class SignatureError(ExportInputError):
    """The NAME has versions with other tensors; the model needs a new NAME."""
