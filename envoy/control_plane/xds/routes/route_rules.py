"""The rules of routing, as data: which path leads to which cluster, how long a call may take, and
after which failures Envoy tries it again."""

from dataclasses import dataclass, replace
from functools import cache

from control_plane.topology import AnsweredBy, ModelTraffic
from control_plane.xds.basics import names

# Longest calls of the methods, seconds. The time for the body to come is part of each.
SHORT_S = 10.0
PREDICT_S = 30.0
CALL_S = 60.0
RELOAD_S = 600.0
# Longest time without any bytes in either direction on a stream, seconds. An import only sends, so
# a pause means that its client is gone; WatchTraining repeats the job every 15 s.
IMPORT_IDLE_S = 30.0
WATCH_IDLE_S = 60.0
STREAM_IDLE_S = 300.0
# Health says something only when it changes.
HEALTH_WATCH_IDLE_S = 3600.0
# A tool asks for the contract and is done.
REFLECTION_IDLE_S = 30.0
# Added to a call's limit, so that Envoy's idle timeout never ends a call.
_IDLE_MARGIN_S = 30.0

# Failures after which Envoy tries a call again, in the words of its retry policies.
# Of calls that change nothing, which any replica may answer. A server that stops answers CANCELLED
# to calls that its grace time was too short for.
_ANYWHERE_ELSE = "unavailable,cancelled,reset,connect-failure,refused-stream"
# Of predictions: an engine that fails answers INTERNAL, and another replica's engine may not.
_ANOTHER_ENGINE = f"internal,{_ANYWHERE_ELSE}"
# The same over HTTP, where the replicas answer with HTTP statuses.
_ANYWHERE_ELSE_HTTP = "gateway-error,reset,connect-failure,refused-stream"
# Statuses of a failing engine are those of route_messages.ENGINE_FAILED.
_ANOTHER_ENGINE_HTTP = f"retriable-status-codes,{_ANYWHERE_ELSE_HTTP}"
# Failures of calls that the service has not seen.
_NOT_YET_SENT = "connect-failure,refused-stream,reset-before-request"
# Failures of calls that the service has not carried out: it was away, or said UNAVAILABLE.
_REPEATABLE = f"unavailable,{_NOT_YET_SENT}"

_SERVICES = (names.TRAINING, names.TRIGGER, names.CONTROL_PLANE)
_MODEL_FIELDS = {f"/{service}/{method}": field for service, method, field in names.MODEL_FIELDS}


@dataclass(frozen=True)
class Rule:
    """One line of the routing table."""

    path: str
    """A prefix of paths when it ends with a slash, else a whole path."""

    cluster: str
    limit_s: float | None = None
    """Longest call, whatever the client's deadline is; None: a stream without a limit."""

    retry_on: str = _NOT_YET_SENT
    transcoded: bool = True
    """JSON bodies are turned into gRPC messages."""

    mirrored: bool = False
    """Envoy may send copies of calls to the Challenger. Streams are never copied, since that would
    double all their work."""

    unary: bool = False
    """Envoy sends these calls over HTTP/1.1 when every replica takes unary calls that way."""

    split_paths: str = ""
    """Regular expression of the paths whose calls a split divides, with {} for the model; empty:
    there are none, or the model's name is in the message."""

    predicts: bool = False
    """A caller waits for the engine's work, so Envoy limits how many of these calls are in flight
    (topology.Limits)."""

    model_in_path: str = ""
    """Prefix of the paths in which the name of the model follows; empty: no path has one."""

    stream_idle_s: float = STREAM_IDLE_S
    """Seconds without any bytes after which Envoy ends a stream."""

    @property
    def idle_s(self) -> float:
        """Seconds without any bytes after which Envoy ends a call."""
        return self.stream_idle_s if self.limit_s is None else self.limit_s + _IDLE_MARGIN_S

    @property
    def yields(self) -> bool:
        """Envoy refuses these calls first when the service has too many. Streams of the services
        other than the replicas do too: however many a caller holds, short calls go on."""
        return self.predicts or (self.limit_s is None and self.cluster in _SERVICES)

    @property
    def hedged(self) -> bool:
        """A call whose replica shows no sign of work is given to another replica as well, and the
        first answer counts. Over HTTP/2 pings find a process that hangs; HTTP/1.1 has none."""
        return self.cluster == names.CHAMPION_UNARY

    @property
    def model_field(self) -> str:
        """Field of the call's first message that names the model; empty: there is none."""
        return _MODEL_FIELDS.get(self.path, "")

    @property
    def asks_about_all_models(self) -> bool:
        """A replica answers with what it knows of all models, or of itself."""
        replicas = self.cluster in (names.CHAMPION, names.CHAMPION_HTTP)
        return replicas and not (self.model_field or self.model_in_path)

    def tells(self, model: ModelTraffic) -> bool:
        """Return whether the calls for a model need a route of their own."""
        if self.model_field:
            return True
        special = model.split.tries_challenger or model.answered_by is not AnsweredBy.EVERY
        return bool(self.model_in_path) and special


# The first rule that matches wins, so a stream's rule stands before the rule of its service.
RULES = (
    Rule(f"/{names.PREDICT_SERVICE}/PredictStream", names.CHAMPION),
    Rule(
        f"/{names.PREDICT_SERVICE}/Predict",
        names.CHAMPION,
        PREDICT_S,
        _ANOTHER_ENGINE,
        mirrored=True,
        unary=True,
        predicts=True,
    ),
    Rule(f"/{names.PREDICT_SERVICE}/", names.CHAMPION, PREDICT_S, _ANYWHERE_ELSE),
    Rule(
        f"/{names.OPEN_INFERENCE_SERVICE}/ModelInfer",
        names.CHAMPION,
        PREDICT_S,
        _ANOTHER_ENGINE,
        mirrored=True,
        unary=True,
        predicts=True,
    ),
    Rule(f"/{names.OPEN_INFERENCE_SERVICE}/", names.CHAMPION, SHORT_S, _ANYWHERE_ELSE),
    Rule(
        f"/{names.TRAIN_SERVICE}/WatchTraining",
        names.TRAINING,
        stream_idle_s=WATCH_IDLE_S,
        retry_on=_REPEATABLE,
    ),
    Rule(f"/{names.TRAIN_SERVICE}/", names.TRAINING, CALL_S, _REPEATABLE),
    Rule(f"/{names.DATA_SERVICE}/ImportExamples", names.TRIGGER, stream_idle_s=IMPORT_IDLE_S),
    Rule(f"/{names.DATA_SERVICE}/", names.TRIGGER, CALL_S, _REPEATABLE),
    Rule(f"/{names.RELOAD_SERVICE}/", names.CONTROL_PLANE, RELOAD_S, _REPEATABLE),
    Rule("/grpc.health.v1.Health/Watch", names.CHAMPION, stream_idle_s=HEALTH_WATCH_IDLE_S),
    Rule("/grpc.health.v1.Health/", names.CHAMPION, SHORT_S, _ANYWHERE_ELSE),
    Rule(
        "/grpc.reflection.v1.ServerReflection/",
        names.CHAMPION,
        stream_idle_s=REFLECTION_IDLE_S,
    ),
    Rule(
        "/grpc.reflection.v1alpha.ServerReflection/",
        names.CHAMPION,
        stream_idle_s=REFLECTION_IDLE_S,
    ),
    Rule("/v2", names.CHAMPION_HTTP, SHORT_S, _ANYWHERE_ELSE_HTTP, transcoded=False),
    Rule("/v2/health/", names.CHAMPION_HTTP, SHORT_S, _ANYWHERE_ELSE_HTTP, transcoded=False),
    Rule(
        "/v2/",
        names.CHAMPION_HTTP,
        PREDICT_S,
        _ANOTHER_ENGINE_HTTP,
        transcoded=False,
        mirrored=True,
        split_paths="/v2/models/{}(/versions/[^/]+)?/infer",
        predicts=True,
        model_in_path="/v2/models/",
    ),
)


@cache
def rules_over_http1() -> tuple[Rule, ...]:
    """RULES for a fleet whose replicas all take unary calls over HTTP/1.1."""
    return tuple(
        replace(rule, cluster=names.CHAMPION_UNARY) if rule.unary else rule for rule in RULES
    )
