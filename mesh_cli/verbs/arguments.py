"""Arguments that several verbs share."""

from typing import Annotated

import typer

Model = Annotated[str, typer.Argument(help="Name of the model: [a-z][a-z0-9_]{0,39}.")]
