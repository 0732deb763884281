"""`python -m service_kit.identities FOLDER`: issues the certificates of the parts; repeat to renew.

FOLDER gets one folder a part, which that part alone should see, and `authority`, which only this
command needs. All parts take new files without a restart.
"""

import time
from pathlib import Path
from typing import Annotated

import typer

from service_kit.identities.issuing import IDENTITY_DAYS, Issuer

_FAILED = "the identities cannot be renewed"


def main(
    folder: Annotated[Path, typer.Argument(help="Folder of the identities.")],
    days: Annotated[
        float, typer.Option(min=0.0001, help="Days for which a certificate is good.")
    ] = IDENTITY_DAYS,
    now: Annotated[
        bool, typer.Option("--now", help="Renew also what has not lived half of its life.")
    ] = False,
    every: Annotated[
        float, typer.Option(min=0, help="Seconds until it looks again; 0: it looks once.")
    ] = 0,
    new_authority: Annotated[
        bool,
        typer.Option(
            "--new-authority",
            help="Make another authority, which all parts trust besides the one before it. Call"
            " again, without this option, some seconds later: then each part gets a certificate of"
            " it.",
        ),
    ] = False,
    forget_previous: Annotated[
        bool,
        typer.Option(
            "--forget-previous", help="Trust the authority before this one no more. The last step."
        ),
    ] = False,
) -> None:
    """Issue what is missing, and renew what has lived half of its life."""
    if every:
        _watch(folder, days, every)
    try:
        issuer = Issuer(folder, days)
        if new_authority:
            issuer.begin_new_authority()
        if forget_previous:
            issuer.forget_previous_authority()
        for part, outcome in issuer.renew(now=now).items():
            typer.echo(f"{folder / part}: {outcome}")
    except (OSError, ValueError) as error:
        typer.echo(f"{_FAILED}: {error}", err=True)
        raise typer.Exit(1) from error


def _watch(folder: Path, days: float, every_s: float) -> None:
    """Renew for ever. What fails is tried again at the next look."""
    while True:
        try:
            outcomes = Issuer(folder, days).renew()
            if replaced := [part for part, outcome in outcomes.items() if outcome != "kept"]:
                typer.echo(f"renewed the identities of {', '.join(replaced)}")
        except (OSError, ValueError) as error:
            typer.echo(f"{_FAILED}: {error}; trying again in {every_s:g} s", err=True)
        time.sleep(every_s)


if __name__ == "__main__":
    typer.run(main)
