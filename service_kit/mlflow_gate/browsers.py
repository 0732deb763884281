"""What a page of another site makes its visitor's browser send. Envoy's door has the same rules."""

import re
from collections.abc import Sequence

ANY = "*"
# No site's owner can have MLflow's address behind these: IP addresses, names without a dot and
# names below localhost, which browsers never look up elsewhere.
_OWN_HOSTS = (r"[0-9.]+", r"\[[0-9a-f:.]+\]", r"[^.:\[\]]+", r"([^.:\[\]]+\.)+localhost")
_PORT = r"\.?(:[0-9]+)?"


class Browsers:
    """The hosts by which browsers may reach MLflow."""

    def __init__(self, listed: Sequence[str], open_reads: bool) -> None:
        """`listed`: further host names; `*.example.com`: every name below it. Without a list every
        name is taken where reading needs a token, which no browser sends by itself."""
        self._hosts: re.Pattern[str] | None = None
        if ANY not in listed and (listed or open_reads):
            names = "|".join((*_OWN_HOSTS, *map(_host, listed)))
            self._hosts = re.compile(f"(?i)({names}){_PORT}")

    def refusal(self, host: str, origin: str | None) -> str:
        """Return why a request is refused; empty: it is not. `origin`: None when it has none."""
        if self._hosts is not None and not self._hosts.fullmatch(host):
            return (
                f"MLflow is not reached by the host {host[:100]!r}: add it to MESH_MLFLOW_HOSTS if"
                " it is yours"
            )
        if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
            return f"pages of {origin[:100]!r} may not call MLflow"
        return ""


def _host(name: str) -> str:
    name = name.rpartition(":")[0] if re.search(r":[0-9]+$", name) else name
    below = name.removeprefix("*.")
    return re.escape(name) if below == name else rf"([^.:]+\.)+{re.escape(below)}"
