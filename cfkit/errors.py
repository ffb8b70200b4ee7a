"""The one exception that a user is meant to see."""


class UserError(ValueError):
    """An error the user can mend: one line that names the file or option and the way out."""
