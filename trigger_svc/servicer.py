"""DataService: translates messages; the folders `dataset` and `batches` do the work."""

from collections.abc import AsyncIterator, Callable, Iterable
from datetime import datetime
from pathlib import Path

from google.protobuf.timestamp_pb2 import Timestamp

from mesh.v1 import batch_pb2, data_pb2, data_pb2_grpc, model_rows_pb2, model_rows_pb2_grpc
from service_kit.callers.caller import current
from service_kit.callers.shares import Shares, caller_of
from service_kit.errors import InvalidArgument
from service_kit.interceptor import Context
from service_kit.limits import check_model_name, check_request_id
from service_kit.page_tokens import check_page_size
from trigger_svc.batches.batch import Batch, BatchState
from trigger_svc.batches.outcomes import BatchOutcomes, Outcome
from trigger_svc.dataset.batch_requests import BatchRequests, Trouble
from trigger_svc.dataset.examples import Example, Spool, check_example_count
from trigger_svc.dataset.staged_rows import SplitCounts
from trigger_svc.dataset.training_rows import DatasetCounts, TrainingRows

MAX_SOURCE_CHARACTERS = 1_024
# Imports that one caller may have under way. Those of one model follow one another anyway.
IMPORTS_OF_A_CALLER = 32


class DataServicer(data_pb2_grpc.DataServiceServicer):
    """Calls `on_import` after each import; imports are spooled in `spool_folder`."""

    def __init__(
        self,
        rows: TrainingRows,
        batches: BatchRequests,
        outcomes: BatchOutcomes,
        spool_folder: Path | None,
        import_max_bytes: int,
        imports_max_bytes: int,
        on_import: Callable[[], None],
    ) -> None:
        self._rows = rows
        self._batches = batches
        self._outcomes = outcomes
        self._spool_folder = spool_folder
        self._import_max_bytes = import_max_bytes
        self._on_import = on_import
        self._imports = Shares("imports", IMPORTS_OF_A_CALLER)
        # One caller's imports leave room for those of others.
        of_caller = max(import_max_bytes, imports_max_bytes // 2)
        self._room = Shares("bytes of rows in imports", of_caller, imports_max_bytes)

    async def AddExamples(
        self, request: data_pb2.AddExamplesRequest, context: Context
    ) -> data_pb2.AddExamplesResponse:
        """Add rows to an existing model."""
        model = check_model_name(request.model)
        request_id = check_request_id(request.request_id)
        check_example_count(len(request.examples))
        added = await self._rows.add(model, _examples(request.examples), request_id)
        return data_pb2.AddExamplesResponse(model=model, added=added, request_id=request_id)

    async def ImportExamples(
        self, requests: AsyncIterator[data_pb2.ImportExamplesRequest], context: Context
    ) -> data_pb2.ImportExamplesResponse:
        """Import rows, making the model when it is new."""
        with self._imports.held(context):
            return await self._import(requests, caller_of(context))

    async def _import(
        self, requests: AsyncIterator[data_pb2.ImportExamplesRequest], caller: str
    ) -> data_pb2.ImportExamplesResponse:
        header: data_pb2.ImportHeader | None = None
        spool = Spool(self._spool_folder, self._import_max_bytes, self._room, caller)
        try:
            async for message in requests:
                if header is None:
                    header = _header(message)
                elif message.HasField("header"):
                    raise InvalidArgument("header", "belongs into the first message only")
                check_example_count(len(message.examples))
                spool.add(_examples(message.examples))
            if header is None:
                raise InvalidArgument("header", "is missing: nothing was sent")
            imported = await self._rows.import_spool(
                header.model,
                spool,
                header.source,
                check_request_id(header.request_id),
                train=not header.no_train,
            )
        finally:
            spool.close()
        self._on_import()
        return data_pb2.ImportExamplesResponse(
            model=header.model,
            rows=_rows(imported.rows),
            batch=None if imported.batch is None else _batch(imported.batch, Outcome()),
            created=imported.created,
        )

    async def DeleteExamples(
        self, request: data_pb2.DeleteExamplesRequest, context: Context
    ) -> data_pb2.DeleteExamplesResponse:
        """Delete the rows with these texts."""
        model = check_model_name(request.model)
        request_id = check_request_id(request.request_id)
        deleted = await self._rows.delete(model, request.texts, request_id)
        return data_pb2.DeleteExamplesResponse(model=model, deleted=deleted, request_id=request_id)

    async def GetDataset(
        self, request: data_pb2.GetDatasetRequest, context: Context
    ) -> data_pb2.Dataset:
        """Count the rows of a model."""
        model = check_model_name(request.model)
        return _dataset(model, await self._rows.counts(model))

    async def Trigger(self, request: data_pb2.TriggerRequest, context: Context) -> data_pb2.Batch:
        """Seal a batch now."""
        model = check_model_name(request.model)
        batch = await self._batches.trigger(model, check_request_id(request.request_id))
        return await self._with_outcome(batch)

    async def Retry(self, request: data_pb2.RetryRequest, context: Context) -> data_pb2.Batch:
        """Send a batch again."""
        model = check_model_name(request.model)
        request_id = check_request_id(request.request_id)
        return await self._with_outcome(
            await self._batches.retry(model, request.batch_id, request_id)
        )

    async def ListBatches(
        self, request: data_pb2.ListBatchesRequest, context: Context
    ) -> data_pb2.ListBatchesResponse:
        """List the newest batches of a model, or of all."""
        model = check_model_name(request.model) if request.model else ""
        limit = check_page_size(request.limit, "limit")
        size = check_page_size(request.page_size) if request.page_size else limit
        caller = current()
        page = await self._batches.page(model, size, request.page_token, request.unresolved, caller)
        outcomes = await self._outcomes.of(page.batches)
        troubles = await self._batches.troubles(model, caller)
        return batch_pb2.ListBatchesResponse(
            batches=[_batch(batch, outcomes.get(batch.id, Outcome())) for batch in page.batches],
            next_page_token=page.next_page_token,
            troubles=[_trouble(trouble) for trouble in troubles],
        )

    async def _with_outcome(self, batch: Batch) -> data_pb2.Batch:
        outcomes = await self._outcomes.of([batch])
        return _batch(batch, outcomes.get(batch.id, Outcome()))


class ModelRowsServicer(model_rows_pb2_grpc.ModelRowsServiceServicer):
    """How the control plane ends the rows of a model that is removed."""

    def __init__(self, rows: TrainingRows) -> None:
        self._rows = rows

    async def Forget(
        self, request: model_rows_pb2.ForgetRequest, context: Context
    ) -> model_rows_pb2.ForgetResponse:
        """End the loop of a model."""
        model = check_model_name(request.model)
        known, dropped = await self._rows.forget(model, request.with_rows)
        return model_rows_pb2.ForgetResponse(known=known, rows_removed=dropped)


def _header(message: data_pb2.ImportExamplesRequest) -> data_pb2.ImportHeader:
    if not message.HasField("header"):
        raise InvalidArgument("header", "is missing in the first message")
    header = message.header
    check_model_name(header.model)
    check_request_id(header.request_id)
    if len(header.source) > MAX_SOURCE_CHARACTERS or "\0" in header.source:
        raise InvalidArgument(
            "header.source", f"has at most {MAX_SOURCE_CHARACTERS:,} characters, none of them NUL"
        )
    return header


def _examples(examples: Iterable[data_pb2.Example]) -> list[Example]:
    return [Example(item.text, item.label, item.split) for item in examples]


def _rows(rows: SplitCounts) -> data_pb2.SplitCounts:
    return data_pb2.SplitCounts(train=rows.train, test=rows.test)


def _dataset(model: str, counts: DatasetCounts) -> data_pb2.Dataset:
    return data_pb2.Dataset(
        model=model,
        rows=_rows(counts.rows),
        labels=[
            data_pb2.LabelCounts(label=label, train=rows.train, test=rows.test)
            for label, rows in counts.labels.items()
        ],
        pending_rows=counts.pending_rows,
        last_batch_id=counts.last_batch_id,
        estimated=counts.estimated,
        unbatched_rows=counts.unbatched_rows,
    )


def _trouble(trouble: Trouble) -> batch_pb2.ModelTrouble:
    return batch_pb2.ModelTrouble(
        model=trouble.model, message=trouble.message, since=_timestamp(trouble.since)
    )


def _error(batch: Batch, outcome: Outcome) -> str:
    """Return the reason of a failed batch: the training job's own one, where that failed."""
    if batch.state is not BatchState.FAILED or not batch.posted_at:
        return batch.error
    if outcome.training_error:
        return f"the training failed: {outcome.training_error}"
    if outcome.trained:
        return f"its training succeeded, and then {batch.error}"
    return batch.error


def _batch(batch: Batch, outcome: Outcome) -> data_pb2.Batch:
    return data_pb2.Batch(
        id=batch.id,
        model=batch.model,
        rows=batch.rows,
        reason=f"BATCH_REASON_{batch.reason}",
        state=f"BATCH_STATE_{batch.state}",
        sealed_at=_timestamp(batch.sealed_at),
        dag_run_id=batch.id if batch.posted_at else "",
        training_id=outcome.training_id,
        version=outcome.version,
        reloaded_at=_timestamp(outcome.reloaded_at),
        first_answer_at=_timestamp(outcome.first_answer_at),
        error=_error(batch, outcome),
        accepted_at=_timestamp(batch.posted_at),
        ended_at=_timestamp(batch.ended_at),
        retries=batch.retries,
    )


def _timestamp(moment: datetime | None) -> Timestamp | None:
    if moment is None:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp
