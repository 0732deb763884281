"""The latest rollback of a model, as a tag of it, so that a rollback that is repeated after a crash
counts once."""

import json
from dataclasses import dataclass

from service_kit.errors import FailedPrecondition
from service_kit.model_registry.records import CHAMPION, PREVIOUS, RegisteredModel

TAG_ROLLBACK = "mesh.rollback"
# Requests that are remembered to have asked for one and the same rollback.
REQUESTS = 20


@dataclass(frozen=True)
class RollbackIntent:
    """A rollback from a version to another one, and the requests that asked for it."""

    bad: str
    good: str
    request_ids: tuple[str, ...]

    def tag(self) -> str:
        """Return the value of the tag."""
        return json.dumps(
            {"request_ids": list(self.request_ids), "from": self.bad, "to": self.good}
        )


def latest_intent(model: RegisteredModel) -> RollbackIntent | None:
    """Return the latest rollback of a model; None: there was none."""
    text = model.tags.get(TAG_ROLLBACK)
    if not text:
        return None
    values = json.loads(text)
    # The tag of an older release holds one request.
    request_ids = values.get("request_ids") or [values["request_id"]]
    return RollbackIntent(values["from"], values["to"], tuple(request_ids))


def intent_of(model: RegisteredModel, request_id: str) -> RollbackIntent:
    """Return the rollback that a request asks for.

    A repeated request gets the versions that it got before. A rollback that was broken off while
    the aliases were moved is completed by the next rollback, whatever its request; a repetition of
    either request then finds it done. Raises FailedPrecondition when there is no previous Champion.
    """
    intent = latest_intent(model)
    champion = model.aliases.get(CHAMPION, "")
    previous = model.aliases.get(PREVIOUS, "")
    if intent is not None:
        if request_id in intent.request_ids:
            return intent
        if champion == previous == intent.good:
            request_ids = (*intent.request_ids, request_id)[-REQUESTS:]
            return RollbackIntent(intent.bad, intent.good, request_ids)
    if previous in ("", champion):
        raise FailedPrecondition(f"{model.name} has no previous Champion to go back to")
    return RollbackIntent(champion, previous, (request_id,))
