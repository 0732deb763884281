"""The identities of the parts in containers, with which they prove to each other who they are."""

from collections.abc import Callable
from pathlib import Path

from mesh_cli.errors import CliError
from service_kit.identities.issuing import Issuer

FOLDER = "identities"


def make_identities(secrets: Path, hand_over: Callable[[Path], None]) -> None:
    """Make the missing identities in a folder beside the secrets, and renew the old ones.

    `hand_over` gives a path to the user of the containers. Raises CliError.
    """
    folder = secrets / FOLDER
    try:
        Issuer(folder, hand_over=hand_over).renew()
    except (OSError, ValueError) as error:
        raise CliError(
            f"the identities in {folder} cannot be made ({error}): run `mesh init` as the user who "
            f"owns {folder}; remove the folder to begin with a new authority"
        ) from error
