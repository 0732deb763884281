"""Makes a version ready: download, load, warm-up, golden set. Blocks, so it runs in a thread."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from weakref import WeakSet

from google.protobuf.message import Message

from inference_svc.engines.base import Engine, MemoryNeed, WeightsMissing
from inference_svc.metrics import exported as metrics
from inference_svc.model.loaded_model import LoadedModel
from inference_svc.model.model_files import (
    TOKENIZER_FILE,
    WEIGHTS_FOLDER,
    InvalidModel,
    ModelSpec,
    needed_weights,
    read_pad_id,
    read_spec,
)
from inference_svc.model.text_tokenizer import Tokenizers
from inference_svc.versions.cache import CachedVersion, ModelCache, ModelSource
from inference_svc.versions.golden_check import check_golden_set
from inference_svc.versions.identity import VersionId, VersionInfo
from inference_svc.versions.memory_room import MemoryRoom
from inference_svc.versions.progress import Dropped, Progress
from service_kit.errors import Aborted, FailedPrecondition, MeshError, Unavailable

log = logging.getLogger(__name__)

DOWNLOAD, LOAD, WARM_UP, GOLDEN_SET = "download", "load", "warm-up", "golden set"
PREPARE_FAILED = "PREPARE_FAILED"

# Batch shapes (rows, tokens) that are run before traffic comes. A model's very first run costs
# 50 ms. Later the first run of any other shape costs 3 to 10 ms more than its next ones, which does
# not pay for running it here.
_FIRST_SHAPES = ((1, 32), (2, 64), (8, 64))
# Versions that were unusable right after their download, of which this many are remembered.
_MOST_UNUSABLE = 64


class PrepareFailed(Aborted):
    """A step failed for good; the version is not usable here."""

    def __init__(self, message: str, step: str) -> None:
        super().__init__(f"{step}: {message}", PREPARE_FAILED, step=step)
        self.step = step


class PrepareUnavailable(Unavailable, PrepareFailed):
    """A step failed because a part of the mesh is away; the preparation may succeed later."""

    def __init__(self, message: str, step: str, retry_after_s: float) -> None:
        PrepareFailed.__init__(self, message, step)
        self.retry_after_s = retry_after_s

    def details(self) -> list[Message]:
        """See MeshError.details."""
        return [*Unavailable.details(self), *PrepareFailed.details(self)]


def prepare_error(error: MeshError, step: str) -> PrepareFailed:
    """Return the error of a step that failed because of `error`."""
    if isinstance(error, Unavailable):
        return PrepareUnavailable(str(error), step, error.retry_after_s)
    return PrepareFailed(str(error), step)


@dataclass(frozen=True, eq=False)
class PreparedVersion:
    """A version in memory that has passed its golden set."""

    info: VersionInfo
    model: LoadedModel
    memory_bytes: int = 0
    """Estimate of the memory that it holds beyond what versions share; 0: unknown."""


class Preparer:
    """Prepares versions, one at a time."""

    def __init__(
        self,
        cache: ModelCache,
        engine: Engine,
        open_source: Callable[[], ModelSource],
        room: MemoryRoom | None = None,
    ) -> None:
        self._cache = cache
        self._choose = partial(needed_weights, reads_graphs=engine.reads_graphs)
        cache.choose = self._choose
        self._engine = engine
        self._open_source = open_source
        self._room = room or MemoryRoom()
        self._in_memory: WeakSet[PreparedVersion] = WeakSet()
        self._tokenizers = Tokenizers()
        self._unusable: set[tuple[str, VersionId]] = set()
        self._one_at_a_time = threading.Lock()

    def prepare(self, name: str, version: VersionId, progress: Progress) -> PreparedVersion:
        """Return the version, ready to answer; `progress` is updated at each step.

        Raises PrepareFailed, PrepareUnavailable when another try may succeed, or Dropped.
        """
        with self._one_at_a_time:
            self._engine.enter_thread(computes=False)
            started = time.monotonic()
            outcome = "failed"
            try:
                prepared = self._prepare(name, version, progress)
                outcome = "ready"
                return prepared
            finally:
                metrics.PREPARE_SECONDS.labels(outcome).observe(time.monotonic() - started)

    def _prepare(self, name: str, version: VersionId, progress: Progress) -> PreparedVersion:
        with _step(DOWNLOAD, progress):
            cached = progress.run(self._fetch(name, version))
        with self._discarded_if_broken(cached):
            with _step(GOLDEN_SET, progress):
                spec = read_spec(cached.folder)
            with _step(LOAD, progress):
                need = self._admit(cached, spec)
                try:
                    model = self._load(cached.folder, spec)
                except WeightsMissing:
                    cached = self._fetch_whole(cached, progress)
                    model = self._load(cached.folder, spec)
            with _step(WARM_UP, progress):
                _warm_up(model)
            with _step(GOLDEN_SET, progress):
                check_golden_set(model)
        prepared = PreparedVersion(cached.info, model, need.held)
        self._in_memory.add(prepared)
        return prepared

    def _admit(self, cached: CachedVersion, spec: ModelSpec) -> MemoryNeed:
        """Raise FailedPrecondition unless the version fits into memory; return what it needs.

        The version that it replaces stays until the swap, so both are in memory. A model's first
        version has to leave room for that; else no model here could be reloaded any more.
        """
        name, folder = cached.info.name, cached.folder
        need = self._engine.memory_needed(*_files(folder, spec))
        held = [(one.info.name, one.memory_bytes) for one in list(self._in_memory)]
        spare = 0
        if all(model != name for model, _ in held):
            spare = max([need.held, *(size for _, size in held)])
        what = f"version {cached.info.version} of {name}"
        try:
            self._room.admit(what, need, spare)
        except FailedPrecondition:
            # The heap may hold what an earlier version has left.
            self._engine.release_memory()
            self._room.admit(what, need, spare)
        return need

    async def _fetch(self, name: str, version: VersionId) -> CachedVersion:
        source = self._open_source()
        try:
            return await self._cache.fetch(source, name, version)
        finally:
            await source.close()

    def _fetch_whole(self, cached: CachedVersion, progress: Progress) -> CachedVersion:
        """Download a version again with every file.

        The files were chosen for another engine, or the graph cannot be loaded here.
        """
        name, version = cached.info.name, cached.info.id
        extra = {"model": name, "version": version.number}
        log.info("downloaded anew with all files", extra=extra)
        self._cache.discard(name, version)
        self._cache.choose = None
        try:
            with _step(DOWNLOAD, progress):
                whole = progress.run(self._fetch(name, version))
        finally:
            self._cache.choose = self._choose
        progress.enter(LOAD)
        return whole

    @contextmanager
    def _discarded_if_broken(self, cached: CachedVersion) -> Iterator[None]:
        """Remove a cached version that is unusable, so that the next try downloads it.

        A file may have been damaged on this disk. It has not been when the version was refused, as
        for want of memory, or when it was unusable right after its download too.
        """
        key = cached.info.name, cached.info.id
        try:
            yield
        except PrepareFailed as error:
            if cached.fresh:
                self._unusable = {*list(self._unusable)[-_MOST_UNUSABLE:], key}
            elif key not in self._unusable and not isinstance(error.__cause__, MeshError):
                self._cache.discard(*key)
            raise
        self._unusable.discard(key)

    def _load(self, folder: Path, spec: ModelSpec) -> LoadedModel:
        return LoadedModel(
            spec=spec,
            pad_id=read_pad_id(folder, spec),
            tokenizer=self._tokenizers.load(folder / TOKENIZER_FILE, spec.max_tokens),
            classifier=self._engine.load(*_files(folder, spec)),
        )


def _files(folder: Path, spec: ModelSpec) -> tuple[Path, Path | None]:
    """The folder of the weights, and the graph's file if there is one."""
    return folder / WEIGHTS_FOLDER, folder / spec.graph if spec.graph else None


@contextmanager
def _step(step: str, progress: Progress) -> Iterator[None]:
    progress.enter(step)
    try:
        yield
    except (Dropped, PrepareFailed):
        raise
    except MeshError as error:
        raise prepare_error(error, step) from error
    except InvalidModel as error:
        raise PrepareFailed(str(error), step) from error
    except Exception as error:
        log.exception("preparation failed", extra={"step": step})
        raise PrepareFailed(_first_line(error), step) from error


def _warm_up(model: LoadedModel) -> None:
    """Run the first shapes, and then a text, which warms the tokenizer up."""
    for rows, tokens in _FIRST_SHAPES:
        model.warm_up(rows, min(tokens, model.spec.max_tokens))
    model.run(model.tokenizer.encode(["a"]))


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
