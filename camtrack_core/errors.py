"""The error types that camtrack raises on purpose.

Each carries one sentence that says what was expected and what came, fit to be shown to a user or put into a
diagnostic. Anything else that escapes is a bug.
"""


class CamtrackError(Exception):
    """Base of every error that camtrack raises on purpose."""


class ImageError(CamtrackError):
    """An image message that cannot be turned into pixels."""


class DataError(CamtrackError):
    """A recording, label file or folder that is missing, broken or empty."""


class ModelError(CamtrackError):
    """A model file that is missing, broken or does not fit its use."""


class ConfigurationError(CamtrackError):
    """A parameter that was refused."""
