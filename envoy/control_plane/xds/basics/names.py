"""Names by which Envoy's resources refer to each other, of services, filters and headers."""

from service_kit.callers import caller

CHAMPION = "champion"
CHALLENGER = "challenger"
CHAMPION_HTTP = "champion-http"
# The same replicas, for unary calls over HTTP/1.1 (service_kit/unary_over_http1/).
CHAMPION_UNARY = "champion-unary"
CHALLENGER_UNARY = "challenger-unary"
REPLICAS = (CHAMPION, CHALLENGER, CHAMPION_HTTP, CHAMPION_UNARY, CHALLENGER_UNARY)
TRAINING = "training"
TRIGGER = "trigger"
CONTROL_PLANE = "control-plane"
CLUSTERS = (*REPLICAS, TRAINING, TRIGGER, CONTROL_PLANE)
DISCOVERY = "discovery"

LISTENER = "mesh"
ROUTES = "mesh"
RUNTIME = "limits"

PREDICT_SERVICE = "mesh.v1.PredictService"
TRAIN_SERVICE = "mesh.v1.TrainService"
RELOAD_SERVICE = "mesh.v1.ReloadService"
DATA_SERVICE = "mesh.v1.DataService"
# Not one of PUBLIC_SERVICES: its JSON differs from the JSON that transcoding makes.
OPEN_INFERENCE_SERVICE = "inference.GRPCInferenceService"
PUBLIC_SERVICES = (PREDICT_SERVICE, TRAIN_SERVICE, RELOAD_SERVICE, DATA_SERVICE)
# Service, method, and the field of the call's first message that names the model.
MODEL_FIELDS = (
    (PREDICT_SERVICE, "Predict", "model"),
    (PREDICT_SERVICE, "PredictStream", "model"),
    (OPEN_INFERENCE_SERVICE, "ModelInfer", "model_name"),
)
HEALTH_SERVICE = "grpc.health.v1.Health"
HEALTH_METHODS = ("Check", "Watch")
REFLECTION_SERVICES = (
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
)
# The field of their message that names the service.
HEALTH_FIELD = "service"
# Metadata of an endpoint by which Envoy chooses among the endpoints of a cluster: the models that
# the endpoint answers for, of those for which not every endpoint does. EVERY_MODEL stands there
# when it answers for all of them.
SUBSETS = "envoy.lb"
SERVES = "serves"
EVERY_MODEL = "*"

TRANSCODER = "envoy.filters.http.grpc_json_transcoder"
BUFFER = "envoy.filters.http.buffer"
CORS = "envoy.filters.http.cors"
FIELD_EXTRACTION = "envoy.filters.http.grpc_field_extraction"
LUA = "envoy.filters.http.lua"
JSON_CHECK = "mesh.json_check"
HEADER_LIMIT = "mesh.header_limit"
STRANGERS = "mesh.strangers"
RATE_LIMIT = "envoy.filters.http.local_ratelimit"
HEAD = "mesh.head"
FIRST_MESSAGE = "mesh.first_message"
# Headers that only Envoy sets: which slot of the replica answers, and that the request is a copy,
# whose answer nobody reads.
ROLE_HEADER = "x-mesh-role"
MIRROR_HEADER = "x-mesh-mirror"
CHAMPION_ROLE = "champion"
CHALLENGER_ROLE = "challenger"
# Header that tells a replica after how many milliseconds Envoy gives the call to another one as
# well (service_kit/unary_over_http1/slow_calls.py).
STALLED_HEADER = "x-mesh-stalled-after-ms"
# Header that clients may send: requests with equal keys get answers from equal versions.
KEY_HEADER = "x-mesh-key"
# Headers that only Envoy sets, from the claims of a token that it has checked.
SUBJECT_HEADER = caller.SUBJECT_HEADER
SCOPES_HEADER = caller.SCOPES_HEADER
MODELS_HEADER = caller.MODELS_HEADER
JTI_HEADER = caller.TOKEN_ID_HEADER
# Only there when the token is a foreign issuer's.
ISSUER_HEADER = caller.ISSUER_HEADER
CALLER_HEADERS = caller.HEADERS
# The filters that find out who calls and what he may.
JWT = "envoy.filters.http.jwt_authn"
REVOKED = "mesh.revoked"
EARLY_CHECK = "mesh.early_check"
SCOPE_CHECK = "mesh.scope_check"


def issuer_cluster(number: int) -> str:
    """Return the name of the cluster from which the keys of an issuer come."""
    return f"issuer-{number}"
