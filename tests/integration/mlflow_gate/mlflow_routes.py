"""Every route of the installed MLflow, and those that the mesh refuses to everybody, by name."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator

# Parts of MLflow that the mesh does not use, by the beginning of the path. A route that is neither
# here nor in the gate's table is new in MLflow: it is refused, and somebody has to look at it.
REFUSED = (
    *("/api/2.0/mlflow/traces", "/api/3.0/mlflow/traces", "/api/2.0/mlflow/unified-traces"),
    *("/api/2.0/mlflow/get-trace-artifact", "/api/3.0/mlflow/get-trace-artifact"),
    *("/api/2.0/mlflow/get-online-trace-details", "/v1/"),
    *("/api/2.0/mlflow/webhooks", "/api/2.0/mlflow/gateway-proxy", "/gateway/"),
    *("/api/2.0/mlflow/artifacts/presigned-", "/api/2.0/mlflow-artifacts/mpu/"),
    *("/api/2.0/mlflow-artifacts/presigned/", "/api/2.0/mlflow/upload-artifact"),
    *("/api/2.0/mlflow/runs/create-promptlab-run", "/api/2.0mlflow/experiments/search-datasets"),
    *("/api/3.0/mlflow/datasets/create", "/api/3.0/mlflow/datasets/x"),
    *("/api/3.0/mlflow/gateway/", "/api/3.0/mlflow/issues"),
    *("/api/3.0/mlflow/label-schemas/", "/api/3.0/mlflow/prompt-optimization/"),
    *("/api/3.0/mlflow/review-queues/", "/api/3.0/mlflow/scorer", "/api/3.0/mlflow/workspaces"),
    *("/api/3.0/jobs", "/api/3.0/mlflow/jobs", "/api/3.0/mlflow/ui-telemetry"),
    "/api/3.0/mlflow/demo/",
    *("/api/3.0/mlflow/genai/", "/api/3.0/mlflow/assistant", "/api/3.0/mlflow/mcp-servers"),
    "/build/",
)
# MLflow's pages search by POST.
REFUSED_READS = {("GET", "/graphql"), ("HEAD", "/graphql")}


def mlflow_routes() -> list[tuple[str, str]]:
    """Method and path of every route, with a word in the place of each variable.

    A process of its own imports MLflow's server, which sets the whole process up for itself.
    """
    result = subprocess.run(
        [sys.executable, "-m", __name__], stdout=subprocess.PIPE, text=True, check=True
    )
    found = {
        (method, re.sub(r"<[^>]*>|\{[^}]*\}", "x", path))
        for method, path in json.loads(result.stdout.splitlines()[-1])
    }
    return sorted(found)


def _all() -> Iterator[tuple[str, str]]:
    from mlflow.server import app as flask_app
    from mlflow.server.fastapi_app import app as fastapi_app

    for rule in flask_app.url_map.iter_rules():
        for method in rule.methods or ():
            yield method, rule.rule
    routers = 0
    for included in fastapi_app.routes:
        router = getattr(included, "original_router", None)
        if router is None:
            continue
        routers += 1
        prefix = included.include_context.prefix
        for route in router.routes:
            for method in route.methods:
                yield method, prefix + route.path
    assert routers > 5, "MLflow's routers are not found in the way that they were"


if __name__ == "__main__":
    print(json.dumps(list(_all())))
