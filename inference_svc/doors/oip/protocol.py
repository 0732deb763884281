"""The Open Inference Protocol v2 without its transports: its calls, answered by the replica."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version as installed_version

from inference_svc.doors.answered_by import answered_by
from inference_svc.doors.oip.tensors import TEXT, Tensor, metadata_of_outputs
from inference_svc.serving.replica import Answer, Replica
from inference_svc.serving.slots import CHAMPION, ServedVersion, SlotKey
from service_kit.errors import InvalidArgument, MeshError, NotFound
from service_kit.limits import check_model_name

SERVER_NAME = "champion-mesh"
SERVER_VERSION = installed_version("champion-mesh-client")
EXTENSIONS = ("binary_tensor_data",)


@dataclass(frozen=True)
class ModelDescription:
    """A served version in the protocol's terms."""

    name: str
    versions: tuple[str, ...]
    platform: str
    outputs: tuple[Tensor, ...]


class OpenInference:
    """Answers the calls of the gRPC servicer and of the HTTP listener."""

    def __init__(self, replica: Replica, replica_id: str) -> None:
        self._replica = replica
        self._replica_id = replica_id
        self.ready = False
        """Whether the replica has started and is not shutting down."""

    async def find(self, model: str, version: str, role: str = CHAMPION) -> ServedVersion:
        """Return the served version that is to answer; `version` "" means the one in the role.

        Raises InvalidArgument for a name that no model can have, NotFound for a version that is
        not served here, the error of Replica.why_unserved for a model that is not, and ModelFailed
        for one that is withdrawn.
        """
        try:
            check_model_name(model)
        except InvalidArgument as error:
            raise InvalidArgument("model_name", error.problem) from error
        slots = self._replica.slots
        served = slots.answering(SlotKey(model, role))
        if served is None:
            raise await self._replica.why_unserved(model)
        named = slots.serving(model, version) if version else served
        if named is None:
            raise NotFound(
                f"version {version[:60]!r} of {model} is not served here; {served.version} is"
            )
        self._replica.check_answers(named)
        return named

    async def is_ready(self, model: str, version: str) -> bool:
        """Whether a request for this model and version would be answered."""
        if not self.ready:
            return False
        try:
            await self.find(model, version)
        except MeshError:
            return False
        return True

    async def describe(self, model: str, version: str) -> ModelDescription:
        """Describe a served version. Raises what `find` raises."""
        served = await self.find(model, version)
        loaded = served.prepared.model
        versions = {
            other.version for other in self._replica.slots.all_served() if other.slot.model == model
        }
        return ModelDescription(
            name=model,
            versions=tuple(sorted(versions)),
            platform=loaded.classifier.engine,
            outputs=metadata_of_outputs(loaded.spec.labels),
        )

    async def infer(
        self,
        model: str,
        version: str,
        texts: Sequence[str],
        role: str = CHAMPION,
        deadline: float | None = None,
        mirrored: bool = False,
        bucket: int | None = None,
    ) -> Answer:
        """Classify texts; errors name the tensor. `bucket` is that of call_metadata.Routing.

        Raises what `find` and the replica's `predict_by` and `predict_mirrored` raise.
        """
        try:
            if mirrored:
                return await self._replica.predict_mirrored(model, texts, deadline, bucket)
            served = await self.find(model, version, role)
            # The split did not choose a version that the caller named, nor the Champion that stands
            # in for a Challenger.
            dealt = not version and served.slot.role == role
            return await self._replica.predict_by(
                served, texts, deadline, bucket if dealt else None
            )
        except InvalidArgument as error:
            if not error.field.startswith("texts"):
                raise
            raise InvalidArgument(f"{TEXT}{error.field[5:]}", error.problem) from error

    def headers(self, answer: Answer) -> tuple[tuple[str, str], ...]:
        """Headers that tell Envoy's access log which version answered."""
        return answered_by(answer.served, self._replica_id)

    def parameters(self, answer: Answer) -> dict[str, str]:
        """Parameters that an answer has beside its tensors."""
        served = answer.served
        return {
            "version": served.version,
            "alias": served.slot.alias,
            "replica": self._replica_id,
        }
