"""The calls that the paths of the Open Inference Protocol stand for."""

from dataclasses import dataclass
from urllib.parse import unquote

from service_kit.errors import InvalidArgument, NotFound
from service_kit.limits import check_model_name


@dataclass(frozen=True)
class Call:
    """The call that a path stands for; with `model` "" it is about the server itself."""

    method: str
    model: str = ""
    version: str = ""

    @property
    def verbs(self) -> tuple[str, ...]:
        """The HTTP methods that it takes, as the header Allow names them."""
        return ("POST",) if self.method == "infer" else ("GET", "HEAD")


_SERVER_CALLS = {
    ("v2",): Call("metadata"),
    ("v2", ""): Call("metadata"),
    ("v2", "health", "live"): Call("live"),
    ("v2", "health", "ready"): Call("ready"),
}
_MODEL_VERBS = ("ready", "infer")


def call_at(path: str) -> Call:
    """Return the call that a path, as the client wrote it, stands for.

    An escaped slash, %2F, belongs to its name and divides nothing. Raises NotFound when there is
    nothing at the path, or when no model can have the name in it.
    """
    root, *segments = (unquote(segment) for segment in path.split("/"))
    call = None if root else _SERVER_CALLS.get(tuple(segments)) or _model_call(segments)
    if call is None:
        raise NotFound(f"there is nothing at {path[:100]}")
    if call.model:
        try:
            check_model_name(call.model)
        except InvalidArgument as error:
            raise NotFound(f"there is no such model: {error.problem}") from error
    return call


def _model_call(segments: list[str]) -> Call | None:
    if segments[:2] != ["v2", "models"] or not all(segments):
        return None
    match segments[2:]:
        case [model]:
            return Call("metadata", model)
        case [model, verb] if verb in _MODEL_VERBS:
            return Call(verb, model)
        case [model, "versions", version]:
            return Call("metadata", model, version)
        case [model, "versions", version, verb] if verb in _MODEL_VERBS:
            return Call(verb, model, version)
    return None
