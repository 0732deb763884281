"""Who may call what of MLflow. A route that is not named here is refused to everybody.

MLflow has some hundreds of routes, and each release adds more; among them are some that call other
servers, keep secrets or run programs. The mesh needs the ones below.
"""

import re
from collections.abc import Iterable, Mapping

READ = "mlflow-read"
CREATE = "mlflow-create"
SERVE = "mlflow-serve"
TRAIN = "mlflow-train"
CLEAN = "mlflow-clean"
WRITE = "mlflow-write"
SCOPES = (READ, CREATE, SERVE, TRAIN, CLEAN, WRITE)
"""What a token may do here: replicas READ, the trigger service may CREATE registered models, the
control plane SERVEs, the training service TRAINs, the daily cleaning CLEANs, and a person with the
operator's token may WRITE. Each of them may read as well."""

# The scope with which a person may see everything of the mesh, MLflow included.
VIEW = "view"

ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
# The routes whose callers say where files lie.
EXPERIMENT, VERSION = "/api/2.0/mlflow/experiments/create", "/api/2.0/mlflow/model-versions/create"

_OPEN = {"GET": ("/health", "/version")}
_READ = {
    "GET": (
        *("/", "/static-files/{*}", "/get-artifact", "/model-versions/get-artifact"),
        *(ARTIFACTS, f"{ARTIFACTS}/{{*}}", "2.0/artifacts/list"),
        *("2.0/experiments/get", "2.0/experiments/get-by-name", "2.0/experiments/search"),
        *("2.0/runs/get", "2.0/metrics/get-history"),
        *("2.0/metrics/get-history-bulk", "2.0/metrics/get-history-bulk-interval"),
        *("2.0/logged-models/{}", "2.0/logged-models/{}/artifacts/directories"),
        "2.0/logged-models/{}/artifacts/files",
        *("2.0/registered-models/get", "2.0/registered-models/search"),
        *("2.0/registered-models/alias", "2.0/registered-models/get-latest-versions"),
        *("2.0/model-versions/get", "2.0/model-versions/search"),
        "2.0/model-versions/get-download-uri",
        *("3.0/server-info", "3.0/datasets/search"),
    ),
    # Searches, which change nothing.
    "POST": (
        *("/graphql", "2.0/experiments/search", "2.0/experiments/search-datasets"),
        *("2.0/runs/search", "2.0/logged-models/search"),
        *("2.0/registered-models/get-latest-versions", "3.0/datasets/search", "3.0/traces/search"),
    ),
}
_CREATE = {"POST": ("2.0/registered-models/create",)}
_CLEAN = {"DELETE": (f"{ARTIFACTS}/{{*}}",)}
_REMOVE = {
    "DELETE": (f"{ARTIFACTS}/{{*}}", "2.0/logged-models/{}", "2.0/model-versions/delete"),
}
_ALIASES = {
    "POST": ("2.0/registered-models/alias", "2.0/model-versions/set-tag"),
    "DELETE": ("2.0/registered-models/alias",),
}
_SERVE = {
    "POST": ("2.0/registered-models/set-tag",),
    "DELETE": ("2.0/registered-models/delete",),
}
_TRAIN = {
    "POST": (
        *("2.0/experiments/create", "2.0/experiments/restore"),
        *("2.0/runs/create", "2.0/runs/update", "2.0/runs/delete", "2.0/runs/set-tag"),
        *("2.0/runs/log-batch", "2.0/runs/log-metric", "2.0/runs/log-parameter"),
        *("2.0/runs/log-inputs", "2.0/runs/log-model", "2.0/runs/outputs"),
        *("2.0/logged-models", "2.0/logged-models/{}/params"),
        *("2.0/model-versions/create", "2.0/registered-models/set-tag"),
    ),
    "PATCH": ("2.0/logged-models/{}", "2.0/logged-models/{}/tags"),
    "PUT": (f"{ARTIFACTS}/{{*}}",),
}
_BY_HAND = {
    "POST": (
        *("2.0/experiments/delete", "2.0/experiments/update"),
        *("2.0/experiments/set-experiment-tag", "2.0/experiments/delete-experiment-tag"),
        *("2.0/runs/restore", "2.0/runs/delete-tag"),
        *("2.0/registered-models/rename", "2.0/model-versions/transition-stage"),
    ),
    "PATCH": ("2.0/registered-models/update", "2.0/model-versions/update"),
    "DELETE": (
        *("2.0/logged-models/{}/tags/{}", "2.0/model-versions/delete-tag"),
        "2.0/registered-models/delete-tag",
    ),
}

_Routes = Mapping[str, Iterable[str]]
_RIGHTS: tuple[tuple[frozenset[str], _Routes], ...] = (
    (frozenset((*SCOPES, VIEW)), _READ),
    (frozenset((CREATE, TRAIN, WRITE)), _CREATE),
    (frozenset((CLEAN, SERVE, TRAIN, WRITE)), _CLEAN),
    (frozenset((SERVE, TRAIN, WRITE)), _REMOVE),
    (frozenset((SERVE, TRAIN, WRITE)), _ALIASES),
    (frozenset((SERVE, WRITE)), _SERVE),
    (frozenset((TRAIN, WRITE)), _TRAIN),
    (frozenset((WRITE,)), _BY_HAND),
)
OPEN: frozenset[str] = frozenset()
"""Nobody's right: the route tells only whether MLflow is up, and is open to everybody."""


def plain_path(path: str) -> str:
    """Return a path as the table has it: MLflow's pages call each method below /ajax-api/."""
    return "/api/" + path.removeprefix("/ajax-api/") if path.startswith("/ajax-api/") else path


def scopes_of(method: str, path: str) -> frozenset[str] | None:
    """Return the scopes of which a caller needs one; OPEN: none; None: the route is refused."""
    method = "GET" if method == "HEAD" else method
    path = plain_path(path)
    found = _EXACT.get((method, path))
    if found is not None:
        return found
    for pattern, scopes in _PATTERNS.get(method, ()):
        if pattern.fullmatch(path):
            return scopes
    return None


def reads(scopes: frozenset[str]) -> bool:
    """Whether a route with these scopes only shows something."""
    return VIEW in scopes


def _tables() -> tuple[
    dict[tuple[str, str], frozenset[str]], dict[str, list[tuple[re.Pattern[str], frozenset[str]]]]
]:
    scopes: dict[tuple[str, str], frozenset[str]] = {}
    for having, routes in _RIGHTS:
        for method, paths in routes.items():
            for path in paths:
                key = method, _whole(path)
                scopes[key] = scopes.get(key, frozenset()) | having
    scopes |= {("GET", path): OPEN for path in _OPEN["GET"]}
    patterns: dict[str, list[tuple[re.Pattern[str], frozenset[str]]]] = {}
    for (method, path), having in scopes.items():
        if "{" in path:
            patterns.setdefault(method, []).append((_regex(path), having))
    return scopes, patterns


def _whole(path: str) -> str:
    """Return a path of MLflow's own API, which the table has without its beginning, as a whole."""
    if path.startswith("/"):
        return path
    version, _, rest = path.partition("/")
    return f"/api/{version}/mlflow/{rest}"


def _regex(path: str) -> re.Pattern[str]:
    text = re.escape(path).replace(r"\{\*\}", ".+").replace(r"\{\}", "[^/]+")
    return re.compile(text, re.DOTALL)


_EXACT, _PATTERNS = _tables()
