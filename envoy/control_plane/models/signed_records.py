"""What this control plane and those before it have recorded, whatever else MLflow says by now."""

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from time import time

from service_kit.model_registry.records import SERVING, RegisteredModel, VersionRef
from service_kit.signing.keys import SignatureRefused, SigningKey, TrustedKeys
from service_kit.signing.records import (
    TAG_SERVING,
    Record,
    record_of,
    serving_ref,
    signed_tag,
)

log = logging.getLogger(__name__)

# A tag of a model: the model's name, the time of its creation, the tag's key.
_Key = tuple[str, int, str]


@dataclass(frozen=True)
class KnownRecord:
    """A signed record of a tag of a model, as it was read or written."""

    model: str
    created_at: int
    """When MLflow created the model, milliseconds since 1970."""
    tag: str
    sequence: int
    text: str


class SignedRecords:
    """Signs records, and reads models as they were recorded: an alias `Serving` or a tag that
    somebody else has set, copied back or removed changes nothing."""

    def __init__(self, key: SigningKey, keys: TrustedKeys, tags: Collection[str] = ()) -> None:
        """`tags`: keys of the tags that are signed besides TAG_SERVING."""
        self.strict = False
        """False until it is known whether a key has ever signed here: a model without any record
        is then shown as it is, since it may come from a release before signatures."""

        self._key = key
        self._keys = keys
        self._tags = (TAG_SERVING, *tags)
        self._known: dict[_Key, tuple[str, Record]] = {}
        self._gone: set[tuple[str, int, str]] = set()
        self._told: set[tuple[str, str]] = set()

    def signs(self, tag: str) -> bool:
        """Whether a tag is a record."""
        return tag in self._tags

    def is_recorded(self, model: RegisteredModel) -> bool:
        """Whether a model has any record."""
        return any(self._record(model, tag) for tag in self._tags)

    def recorded(self, model: RegisteredModel) -> RegisteredModel:
        """Return a model with the alias `Serving` and the signed tags as they were recorded."""
        if not self.strict and not self.is_recorded(model):
            return model
        records = {tag: self._record(model, tag) for tag in self._tags}
        tags = {tag: value for tag, value in model.tags.items() if tag not in self._tags}
        tags |= {tag: record.value for tag, record in records.items() if record}
        aliases = {name: of for name, of in model.aliases.items() if name != SERVING}
        ref = self._served(model)
        if not ref:
            self._tell_of_alias(model)
            return replace(model, aliases=aliases, tags=tags)
        sources = {**model.sources, ref.version: ref.source}
        return replace(model, aliases={**aliases, SERVING: ref.version}, tags=tags, sources=sources)

    def changed(self, model: RegisteredModel) -> tuple[Mapping[str, str], str]:
        """Return what somebody else has changed in MLflow: the right texts of tags, and the version
        that the alias `Serving` should name; empty: it names the right one."""
        texts = {}
        for tag in self._tags:
            self._record(model, tag)
            known = self._known.get((model.name, model.created_at, tag))
            if known and known[0] != model.tags.get(tag):
                texts[tag] = known[0]
        ref = self._served(model)
        return texts, "" if model.aliases.get(SERVING, "") == ref.version else ref.version

    def text(self, model: RegisteredModel, tag: str, value: str) -> str:
        """Sign a new record; return what is to be written as the value of the tag."""
        known = self._known.get((model.name, model.created_at, tag))
        # Milliseconds since 1970, so that a record that follows a lost one is the later one too.
        sequence = max(known[1].sequence + 1 if known else 0, int(time() * 1000))
        return signed_tag(model, tag, Record(value, sequence), self._key)

    def written(self, model: RegisteredModel, tag: str, text: str) -> None:
        """Remember a record that was written."""
        self._record(replace(model, tags={tag: text}), tag)

    def recall(self, known: KnownRecord) -> None:
        """Remember a record that was kept: an older one in MLflow does not count any more."""
        model = RegisteredModel(known.model, tags={known.tag: known.text})
        self._record(replace(model, created_at=known.created_at), known.tag)

    def known(self) -> list[KnownRecord]:
        """Return the latest records, to keep them."""
        return [
            KnownRecord(*key, record.sequence, text) for key, (text, record) in self._known.items()
        ]

    def version_gone(self, model: RegisteredModel, version: str) -> None:
        """Note that the recorded version was deleted in MLflow: then none is served."""
        self._gone.add((model.name, model.created_at, version))

    def forget_all_but(self, models: Collection[RegisteredModel]) -> None:
        """Forget the records of models that MLflow does not have any more."""
        there = {(model.name, model.created_at) for model in models}
        self._known = {key: of for key, of in self._known.items() if key[:2] in there}
        self._gone = {key for key in self._gone if key[:2] in there}
        self._told = {key for key in self._told if any(key[0] == name for name, _ in there)}

    def _served(self, model: RegisteredModel) -> VersionRef:
        ref = serving_ref(self._record(model, TAG_SERVING))
        gone = (model.name, model.created_at, ref.version) in self._gone
        return VersionRef() if gone else ref

    def _record(self, model: RegisteredModel, tag: str) -> Record | None:
        """Return the latest record in a tag that this control plane has ever read or written."""
        key = model.name, model.created_at, tag
        known = self._known.get(key)
        text = model.tags.get(tag)
        if known is not None and known[0] == text:
            return known[1]
        try:
            found = record_of(model, tag, self._keys)
        except SignatureRefused as error:
            self._tell(model.name, tag, f"{error}")
            found = None
        later = found and (known is None or found.sequence > known[1].sequence)
        if later and found is not None and text is not None:
            self._known[key] = text, found
            return found
        return known[1] if known else None

    def _tell_of_alias(self, model: RegisteredModel) -> None:
        if SERVING in model.aliases:
            why = f"the alias {SERVING} names version {model.aliases[SERVING]}, which no Reload set"
            self._tell(model.name, SERVING, why)

    def _tell(self, model: str, what: str, why: str) -> None:
        """Log once for each model and tag that something is ignored."""
        if self.strict and (model, what) not in self._told:
            self._told.add((model, what))
            log.warning("not signed by the control plane, ignored", extra=_about(model, what, why))


def _about(model: str, what: str, why: str) -> dict[str, str]:
    return {"model": model, "what": what, "why": why}
