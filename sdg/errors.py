"""The one exception that speaks to the user: what is wrong, where, and what to do."""


class UserError(ValueError):
    """A mistake the user can mend. Entry points print its message alone, without a traceback."""
