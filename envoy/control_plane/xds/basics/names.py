"""Names that Envoy's resources know each other by, and the services behind each cluster."""

CHAMPION = "champion"
CHALLENGER = "challenger"
CHAMPION_HTTP = "champion-http"
# The same replicas, for single calls over HTTP/1.1 (service_kit/unary/).
CHAMPION_UNARY = "champion-unary"
CHALLENGER_UNARY = "challenger-unary"
REPLICAS = (CHAMPION, CHALLENGER, CHAMPION_HTTP, CHAMPION_UNARY, CHALLENGER_UNARY)
TRAINING = "training"
TRIGGER = "trigger"
CONTROL_PLANE = "control-plane"
DISCOVERY = "discovery"

LISTENER = "mesh"
ROUTES = "mesh"
RUNTIME = "limits"

PREDICT_SERVICE = "mesh.v1.PredictService"
TRAIN_SERVICE = "mesh.v1.TrainService"
RELOAD_SERVICE = "mesh.v1.ReloadService"
DATA_SERVICE = "mesh.v1.DataService"
# Its JSON is not what transcoding makes, so it is not one of PUBLIC_SERVICES.
OPEN_INFERENCE_SERVICE = "inference.GRPCInferenceService"
PUBLIC_SERVICES = (PREDICT_SERVICE, TRAIN_SERVICE, RELOAD_SERVICE, DATA_SERVICE)
# Service, method, and the field of its first message that names the model.
MODEL_FIELDS = (
    (PREDICT_SERVICE, "Predict", "model"),
    (PREDICT_SERVICE, "PredictStream", "model"),
    (OPEN_INFERENCE_SERVICE, "ModelInfer", "model_name"),
)

TRANSCODER = "envoy.filters.http.grpc_json_transcoder"
BUFFER = "envoy.filters.http.buffer"
CORS = "envoy.filters.http.cors"
FIELD_EXTRACTION = "envoy.filters.http.grpc_field_extraction"
LUA = "envoy.filters.http.lua"
# Set by Envoy alone: which slot of the replica answers, and that nobody reads the answer.
ROLE_HEADER = "x-mesh-role"
MIRROR_HEADER = "x-mesh-mirror"
CHAMPION_ROLE = "champion"
CHALLENGER_ROLE = "challenger"
# Sent by clients: equal keys get equal versions.
KEY_HEADER = "x-mesh-key"
