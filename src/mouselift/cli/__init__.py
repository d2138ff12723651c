"""The command line: every command is a few lines over a function of a lower layer, imported when it is called."""

import logging
import sys

from mouselift.cli import batch, data, measure, models, objects, view, weights  # noqa: F401 (they register their commands)
from mouselift.cli.app import app
from mouselift.errors import InputError

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130


def main() -> None:
    """Run a command; what the user can mend is one line and exit status 2."""
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
    try:
        app.cli(prog="mouselift", description="One picture of a laboratory mouse in, a 3D Gaussian model out.")
    except InputError as error:
        sys.stderr.write(f"mouselift: error: {error}\n")
        sys.exit(EXIT_BAD_INPUT)
    except BrokenPipeError:  # `mouselift ... | head`: nobody reads on
        sys.stdout = None
    except KeyboardInterrupt:
        sys.stderr.write("mouselift: interrupted\n")
        sys.exit(EXIT_INTERRUPTED)
