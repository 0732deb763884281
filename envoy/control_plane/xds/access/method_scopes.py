"""The one table that says which scope each method asks for. A method without a row is nobody's."""

from collections.abc import Iterator, Mapping

from google.protobuf.descriptor_pb2 import FileDescriptorSet

from control_plane.access.rules import Scope
from control_plane.xds.basics import names
from control_plane.xds.basics.contract_paths import contract_paths, descriptor

_ROWS: tuple[tuple[str, Scope, tuple[str, ...]], ...] = (
    (
        names.PREDICT_SERVICE,
        Scope.PREDICT,
        ("Predict", "PredictStream", "ListModels", "GetModel"),
    ),
    (
        names.OPEN_INFERENCE_SERVICE,
        Scope.PREDICT,
        (
            *("ServerLive", "ServerReady", "ServerMetadata", "ModelReady", "ModelMetadata"),
            "ModelInfer",
        ),
    ),
    (names.HEALTH_SERVICE, Scope.PREDICT, ("Check", "List", "Watch")),
    ("grpc.reflection.v1.ServerReflection", Scope.PREDICT, ("ServerReflectionInfo",)),
    ("grpc.reflection.v1alpha.ServerReflection", Scope.PREDICT, ("ServerReflectionInfo",)),
    (names.TRAIN_SERVICE, Scope.VIEW, ("GetTraining", "ListTrainings", "WatchTraining")),
    (names.TRAIN_SERVICE, Scope.TRAIN, ("Train", "CancelTraining")),
    (names.DATA_SERVICE, Scope.VIEW, ("GetDataset", "ListBatches")),
    (names.DATA_SERVICE, Scope.DATA, ("AddExamples", "ImportExamples", "DeleteExamples")),
    (names.DATA_SERVICE, Scope.TRAIN, ("Trigger", "Retry")),
    (names.RELOAD_SERVICE, Scope.VIEW, ("GetTraffic", "GetCanary", "GetFleet")),
    (
        names.RELOAD_SERVICE,
        Scope.RELEASE,
        ("Reload", "Rollback", "SetTraffic", "StartCanary", "StopCanary", "RemoveModel"),
    ),
)

SCOPE_OF: Mapping[str, Scope] = {
    f"/{service}/{method}": scope for service, scope, methods in _ROWS for method in methods
}
"""Path of each gRPC method and its scope. JSON calls have these paths once they are transcoded."""

# A method that the table lacks, which no version of a service should have.
UNLISTED = Scope.RELEASE
# Prefix of the Open Inference Protocol over HTTP.
_OPEN_INFERENCE_HTTP = "/v2"


def scopes_under(path: str) -> Mapping[str, Scope]:
    """Return the methods that a rule of routing covers, and their scopes.

    `path` is a prefix when it ends with a slash, else a whole path.
    """
    if path.startswith(_OPEN_INFERENCE_HTTP):
        return {path: Scope.PREDICT}
    if path.endswith("/"):
        return {method: scope for method, scope in SCOPE_OF.items() if method.startswith(path)}
    return {path: SCOPE_OF[path]}


def json_templates(scope: Scope) -> Iterator[str]:
    """Yield the paths over HTTP whose methods ask for a scope, such as /v1/models/{model}."""
    described = FileDescriptorSet.FromString(descriptor())
    for path in contract_paths(described):
        if SCOPE_OF[path.method] is scope:
            yield path.template
