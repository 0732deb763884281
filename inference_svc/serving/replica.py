"""One replica: prepares and swaps versions, and answers requests with what it serves."""

import asyncio
import logging
import re
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

from grpc import StatusCode

from inference_svc.batching.batcher import FAILING, Batcher, ModelFailed
from inference_svc.batching.job import Classified, Lane
from inference_svc.serving.comparisons import Comparisons
from inference_svc.serving.kept_files import KeptFiles
from inference_svc.serving.slots import CHALLENGER, CHAMPION, ServedVersion, SlotKey, Slots, Swap
from inference_svc.serving.unserved_models import UnservedModels
from inference_svc.serving.upcoming_versions import UpcomingVersions
from inference_svc.versions.cache import ModelCache, ModelSource
from inference_svc.versions.identity import VersionId
from inference_svc.versions.preparer import DOWNLOAD, PrepareFailed, prepare_error
from inference_svc.versions.remembered_versions import RememberedVersions
from service_kit.errors import FailedPrecondition, InvalidArgument, MeshError, Unavailable
from service_kit.limits import check_model_name, check_texts

log = logging.getLogger(__name__)

# Time that a call waits before Envoy is told to ask another replica, seconds. Without it, a replica
# that refuses would look faster than those that compute, and draw the traffic.
REFUSAL_PAUSE_S = 0.05
# A version becomes a folder's name.
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,63}")


@dataclass(frozen=True)
class Answer:
    """Probabilities, and the version that gave them."""

    served: ServedVersion
    classified: Classified


class Replica:
    """The replica; the servicers translate messages for it. Lives on the event loop."""

    def __init__(
        self,
        slots: Slots,
        upcoming: UpcomingVersions,
        batcher: Batcher,
        registry: ModelSource,
        unserved: UnservedModels,
        cache: ModelCache,
        remembered: RememberedVersions,
    ) -> None:
        self.slots = slots
        self.upcoming = upcoming
        self._batcher = batcher
        self.comparisons = Comparisons(batcher, slots)
        self._registry = registry
        self._unserved = unserved
        self._kept = KeptFiles(slots, upcoming, cache, remembered)
        self._steered: set[SlotKey] = set()
        self.trouble = ""
        """Why the replica as a whole does not answer; empty: it does."""
        self.suspect_engine: Callable[[], None] = lambda: None
        """Called when a version cannot be loaded or checked; the engine may be the cause."""

    async def predict(
        self,
        slot: SlotKey,
        texts: Sequence[str],
        lane: Lane = Lane.INTERACTIVE,
        deadline: float | None = None,
        bucket: int | None = None,
    ) -> Answer:
        """Classify texts, all by one version; `deadline` is in seconds of time.monotonic.

        `bucket` is the key bucket of a request that Envoy's split dealt to the slot. The Champion
        answers for a model without a Challenger. Raises InvalidArgument, NotFound,
        FailedPrecondition, Exhausted (not for bulk texts, which wait for room), Unavailable.
        """
        check_model_name(slot.model)
        check_texts(texts)
        served = self.slots.answering(slot)
        if served is None:
            raise await self.why_unserved(slot.model)
        dealt_to = bucket if served.slot.role == slot.role else None
        return await self._answer(served, texts, lane, deadline, dealt_to)

    async def predict_by(
        self,
        served: ServedVersion,
        texts: Sequence[str],
        deadline: float | None = None,
        bucket: int | None = None,
    ) -> Answer:
        """Classify texts by a version that was looked up in `slots` without a pause since.

        `bucket` is the key bucket of a request that Envoy's split dealt to this version.
        Raises InvalidArgument, Exhausted, Unavailable.
        """
        check_texts(texts)
        return await self._answer(served, texts, Lane.INTERACTIVE, deadline, bucket)

    async def predict_mirrored(
        self,
        model: str,
        texts: Sequence[str],
        deadline: float | None = None,
        bucket: int | None = None,
    ) -> Answer:
        """Classify texts by the Challenger, and compare with the Champion when there is time.

        `bucket` is the request's key bucket.

        Raises FailedPrecondition when no Challenger is served here: nobody waits for the answer to
        a mirrored request, so the Champion does not answer it. Else raises what `predict_by`
        raises.
        """
        challenger = self.slots.served(SlotKey(model, CHALLENGER))
        if challenger is None:
            raise FailedPrecondition(f"no Challenger of {model[:60]} is served here")
        answer = await self.predict_by(challenger, texts, deadline)
        champion = self.slots.served(SlotKey(model, CHAMPION))
        if champion is not None:
            names = challenger.prepared.model.spec.labels
            labels = [names[column] for column in answer.classified.best]
            self.comparisons.compare(challenger, champion, texts, labels, bucket)
        return answer

    async def _answer(
        self,
        served: ServedVersion,
        texts: Sequence[str],
        lane: Lane,
        deadline: float | None,
        dealt_to: int | None,
    ) -> Answer:
        """Have the batcher classify the texts; requests that are not bulk are counted."""
        try:
            self.check_answers(served)
        except ModelFailed:
            await asyncio.sleep(REFUSAL_PAUSE_S)
            raise
        model = served.prepared.model
        with self.slots.lease(served):
            if lane is Lane.BULK:
                return Answer(served, await self._batcher.classify_when_room(model, texts))
            stats, started = served.stats, time.perf_counter()
            try:
                classified = await self._batcher.classify(model, texts, lane, deadline)
            except Exception as error:
                # A refusal (full queue, deadline) says nothing about the version.
                refused = isinstance(error, MeshError) and error.code is not StatusCode.INTERNAL
                if isinstance(error, ModelFailed) or not refused:
                    stats.count_failure(dealt_to)
                raise
            ms = (time.perf_counter() - started) * 1e3
            stats.count_answer(ms, classified.timing.compute_ms, classified.best, dealt_to)
        return Answer(served, classified)

    def check_answers(self, served: ServedVersion) -> None:
        """Raise ModelFailed when the replica does not answer with a version that it serves."""
        if self.trouble:
            raise ModelFailed(f"this replica cannot compute: {self.trouble}")
        if served.withdrawn:
            raise ModelFailed(
                f"this replica does not answer for {served.slot.model} now: {FAILING}; it checks "
                "by itself when they work again"
            )

    async def why_unserved(self, model: str) -> MeshError:
        """Return the error that tells a caller why a model gets no answer here."""
        error = await self._unserved.explain(model, self.slots.model_names())
        if isinstance(error, Unavailable):
            failed = self.upcoming.failed(SlotKey(model))
            if failed is not None:
                error = Unavailable(
                    f"version {failed.version} of {model} cannot be served here: the step "
                    f"{failed.progress.step!r} failed; this replica tries again by itself"
                )
            await asyncio.sleep(REFUSAL_PAUSE_S)
        return error

    async def prepare(
        self,
        slot: SlotKey,
        version: str,
        source: str = "",
        executor: Executor | None = None,
    ) -> float:
        """Make a version ready beside the one that serves; returns the milliseconds it took.

        `source` is where the registry says that the version's files lie; when it is empty, the
        registry is asked. Raises PrepareFailed, PrepareUnavailable, Aborted; see
        UpcomingVersions.prepare.
        """
        check_model_name(slot.model)
        if not _VERSION.fullmatch(version):
            raise InvalidArgument("version", f"{version[:60]!r} is not a version")
        started = time.perf_counter()
        wanted = VersionId(version, source or await self._find_source(slot, version))
        # One that is withdrawn is loaded anew.
        loaded = [one for one in self.slots.of_model(slot.model) if not one.withdrawn]
        served_elsewhere = next((one for one in loaded if one.id == wanted), None)
        if served_elsewhere is None:
            await self._prepare(slot, wanted, executor)
        elif all(one.slot != slot or one.id != wanted for one in loaded):
            # A Challenger that becomes the Champion is loaded and checked already.
            self.upcoming.adopt(slot, served_elsewhere.prepared)
        return (time.perf_counter() - started) * 1e3

    async def _prepare(self, slot: SlotKey, wanted: VersionId, executor: Executor | None) -> None:
        try:
            await self.upcoming.prepare(slot, wanted, executor)
        except PrepareFailed as error:
            if error.step != DOWNLOAD:
                self.suspect_engine()
            raise

    async def _find_source(self, slot: SlotKey, version: str) -> str:
        """Ask the registry where the files of a version lie. Raises PrepareFailed."""
        try:
            return (await self._registry.get_version(slot.model, version)).source
        except MeshError as error:
            failed = prepare_error(error, DOWNLOAD)
            self.upcoming.refuse(slot, VersionId(version, ""), failed, DOWNLOAD)
            raise failed from error

    async def activate(
        self, slot: SlotKey, version: str, source: str = "", steered: bool = True
    ) -> Swap:
        """Serve a prepared version; does nothing when the slot serves it already.

        With an empty `source` the version of this number that is prepared is meant, else the one
        that serves. `steered` is True when the control plane asked for this version; then the
        restorer leaves the slot alone. Raises FailedPrecondition when the version is neither
        prepared nor serving.
        """
        served = self.slots.served(slot)
        prepared = self.upcoming.take(slot, version, source)
        if prepared is not None:
            swap = self.slots.swap(slot, prepared)
        elif served is not None and served.id == VersionId(version, source or served.id.source):
            swap = Swap(0.0, version, 0)
        else:
            raise FailedPrecondition(
                f"version {version} of {slot.model} is not prepared as {slot.alias} here"
            )
        if steered:
            self._steered.add(slot)
        await self._kept.settle(slot.model)
        return swap

    def is_steered(self, slot: SlotKey) -> bool:
        """Whether the control plane has set this slot since the start."""
        return slot in self._steered

    async def abort(
        self, slot: SlotKey, version: str, source: str = "", removed: bool = False
    ) -> None:
        """Drop a version that is prepared, or that the Challenger's slot serves.

        Does nothing for any other version; an empty `source` stands for any. A model without its
        Challenger is answered by its Champion. When the model was `removed`, a Champion that serves
        goes as well, and the replica keeps nothing of a model that no slot serves.
        """
        self.upcoming.drop(slot, version, source)
        served = self.slots.served(slot)
        serves = served is not None and served.id == VersionId(version, source or served.id.source)
        if serves and (removed or slot.role == CHALLENGER):
            self.slots.retire(slot)
        if removed:
            # The restorer may have read the registry before.
            self._steered.add(slot)
            self._unserved.forget(slot.model)
            await self._kept.settle(slot.model)

    async def forget_all_but(self, registered: Collection[str]) -> None:
        """Keep nothing of models that the registry does not have: they were removed meanwhile."""
        await self._kept.forget_all_but(registered)
