"""The one exception that users see as a single line."""


class InputError(ValueError):
    """Something that the user gave is wrong: says what was expected, what was found, and where.

    The command line prints its message as one line and exits with status 2. Everything else that is raised is
    our own mistake and keeps its traceback.
    """
