"""The errors of export: each is a sentence for the person who runs the command."""


class ExportError(Exception):
    """A model that cannot be exported; nothing was published."""


class ParityError(ExportError):
    """The exported graphs do not give torch's numbers; nothing was published."""


class SignatureError(ExportError):
    """The NAME has versions with other tensors; the model needs a new NAME."""
