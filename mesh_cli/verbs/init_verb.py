"""The verb `mesh init`: makes the passwords, keys and certificates of a mesh in containers."""

from collections.abc import Mapping

import typer

from mesh_cli.compose.compose_secrets import GIVEN
from mesh_cli.compose.initialise import initialise
from mesh_cli.local.home import compose_folder
from mesh_cli.terminal import output
from mesh_cli.terminal.output import Json, console

_WORDS = {
    "made": "made",
    "kept": "was there",
    "replaced": "replaced by {}",
}


def register(app: typer.Typer) -> None:
    """Add the verb to the command."""
    app.command()(init)


def init(json: Json = False) -> None:
    """Make the missing passwords, keys and certificates of a mesh in containers.

    A certificate that ends soon, or lacks a name, is replaced, and so is one that was renewed in
    the files MESH_CERTIFICATE and MESH_KEY. They are files in secrets/ that only their owner can
    read; .env names the user who runs the containers.
    HUGGINGFACE_TOKEN and SLACK_URL are taken from the environment when they are set there.
    Example: `mesh init`
    """
    project = compose_folder()
    made = initialise(project)
    if json:
        output.print_json(
            {
                "folder": str(made.folder),
                "secrets": made.secrets,
                "certificates": made.certificates,
                "env": made.env,
            }
        )
        return
    for name, outcome in made.secrets.items():
        source = f"what {GIVEN[name]} holds" if name in GIVEN else "a new one"
        _say(f"{made.folder / name}: {_WORDS[outcome].format(source)}")
    for name, outcome in made.certificates.items():
        _say(f"{made.folder / name}: {_WORDS[outcome].format('a new one')}")
    _say(f"{project / '.env'}: {_added(made.env)}")


def _added(env: Mapping[str, str]) -> str:
    lines = ", ".join(f"{name}={value}" for name, value in env.items())
    return f"added {lines}" if lines else "was complete"


def _say(line: str) -> None:
    console.print(line, soft_wrap=True)
