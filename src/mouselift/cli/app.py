"""What all commands share."""

from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import arg

app = tyro.extras.SubcommandApp()
Out = Annotated[Path, arg(aliases=["-o"])]
