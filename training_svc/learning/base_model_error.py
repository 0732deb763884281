"""The error about a base model, in a file of its own because it is cheap to import."""


class BaseModelUnusable(Exception):
    """The listed base model cannot be had or loaded; the operator has to look at it."""
