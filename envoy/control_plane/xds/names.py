"""Names that Envoy's resources know each other by, and the services behind each cluster."""

CHAMPION = "champion"
CHAMPION_HTTP = "champion-http"
TRAINING = "training"
TRIGGER = "trigger"
CONTROL_PLANE = "control-plane"

LISTENER = "mesh"
ROUTES = "mesh"

PREDICT_SERVICE = "mesh.v1.PredictService"
TRAIN_SERVICE = "mesh.v1.TrainService"
RELOAD_SERVICE = "mesh.v1.ReloadService"
DATA_SERVICE = "mesh.v1.DataService"
PUBLIC_SERVICES = (PREDICT_SERVICE, TRAIN_SERVICE, RELOAD_SERVICE, DATA_SERVICE)

TRANSCODER = "envoy.filters.http.grpc_json_transcoder"
BUFFER = "envoy.filters.http.buffer"
CORS = "envoy.filters.http.cors"
# Set by Envoy alone: which slot of the replica answers.
ROLE_HEADER = "x-mesh-role"
