"""The client. Change mesh/_async/client.py: `make protos` makes mesh/_sync/client.py from it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence

import grpc

from mesh._async.transport import BulkStream, Channel, Requests, call, open_channel, pause
from mesh._shared import authorization, calls
from mesh.errors import from_rpc_error, from_status
from mesh.v1 import (
    batch_pb2,
    data_pb2,
    data_pb2_grpc,
    predict_pb2,
    predict_pb2_grpc,
    reload_pb2,
    reload_pb2_grpc,
    train_pb2,
    train_pb2_grpc,
)


class AsyncMeshClient:
    """Calls the mesh at `address` (host:port of Envoy; default MESH_ADDRESS, else 127.0.0.1:8000).

    `https://host:port` uses TLS; `ca` is then a PEM file with the authorities to trust (default
    MESH_CA, else the usual ones). Every call carries `token`; None: MESH_TOKEN, else what the file
    MESH_TOKEN_FILE holds.
    Use it as a context manager, or call `close`. An AsyncMeshClient is made inside a running event
    loop; threads may share one MeshClient.
    """

    def __init__(
        self, address: str | None = None, *, channel: Channel | None = None,
        token: str | None = None, ca: str | None = None,
    ) -> None:  # fmt: skip
        self.address = calls.address_or_default(address)
        opened = channel or open_channel(self.address, ca)
        self._channel = authorization.authorized(opened, token)
        self._predict = predict_pb2_grpc.PredictServiceStub(self._channel)
        self._train = train_pb2_grpc.TrainServiceStub(self._channel)
        self._reload = reload_pb2_grpc.ReloadServiceStub(self._channel)
        self._data = data_pb2_grpc.DataServiceStub(self._channel)

    async def __aenter__(self) -> AsyncMeshClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()

    # Prediction

    async def predict(
        self,
        model: str,
        texts: str | Sequence[str],
        *,
        all_scores: bool = False,
        key: str | None = None,
        timeout_s: float = calls.PREDICT_TIMEOUT_S,
    ) -> predict_pb2.PredictResponse:
        """Classify one text or 1 to 1,024 of them; `predictions` come in their order."""
        request = calls.predict(model, texts, all_scores)
        return await call(self._predict.Predict, request, timeout_s, calls.key_metadata(key))

    def predict_stream(
        self, requests: Requests
    ) -> AsyncIterator[predict_pb2.PredictStreamResponse]:
        """Answer requests in bulk, in any order; each request needs an `id` of its own.

        What was not answered when a replica went away is sent again, so an id is answered once.
        """
        return BulkStream(self._predict, requests).answers()

    async def score(
        self, model: str, texts: Iterable[str]
    ) -> AsyncIterator[predict_pb2.Prediction]:
        """Classify any number of texts; the predictions come in the order of the texts."""
        waiting: dict[str, predict_pb2.PredictResponse] = {}
        wanted = 0
        async for answer in self.predict_stream(calls.bulk(model, texts)):
            if answer.HasField("error"):
                raise from_status(answer.error)
            waiting[answer.id] = answer.response
            while str(wanted) in waiting:
                for prediction in waiting.pop(str(wanted)).predictions:
                    yield prediction
                wanted += 1

    async def list_models(self) -> list[predict_pb2.Model]:
        """The models in service, all pages of them."""
        request = predict_pb2.ListModelsRequest(page_size=calls.PAGE_SIZE)
        models: list[predict_pb2.Model] = []
        while True:
            page = await call(self._predict.ListModels, request)
            models.extend(page.models)
            if not page.next_page_token:
                return models
            request.page_token = page.next_page_token

    async def get_model(self, model: str) -> predict_pb2.Model:
        """The version of a model in service."""
        return await call(self._predict.GetModel, predict_pb2.GetModelRequest(model=model))

    # Training

    async def train(
        self,
        model: str,
        *,
        params: train_pb2.TrainParams | None = None,
        promotion: train_pb2.Promotion | None = None,
        serve: bool = False,
        request_id: str = "",
    ) -> train_pb2.TrainingJob:
        """Submit a training job; returns at once. `serve`: you will Reload what it promotes."""
        request = calls.train(model, request_id, params, promotion, serve)
        return await call(self._train.Train, request)

    async def get_training(self, training_id: str) -> train_pb2.TrainingJob:
        """A job by its id or request id."""
        return await call(self._train.GetTraining, train_pb2.GetTrainingRequest(id=training_id))

    async def list_trainings(self, model: str, *, limit: int = 0) -> list[train_pb2.TrainingJob]:
        """The jobs of a model, newest first."""
        request = train_pb2.ListTrainingsRequest(model=model, limit=limit)
        return list((await call(self._train.ListTrainings, request)).trainings)

    async def watch_training(self, training_id: str) -> AsyncIterator[train_pb2.TrainingJob]:
        """The job now and at every change until it has ended; joins again when cut off."""
        request = train_pb2.WatchTrainingRequest(id=training_id)
        failures = 0
        while True:
            try:
                async for job in self._train.WatchTraining(request):
                    failures = 0
                    yield job
                    if job.state in calls.ENDED:
                        return
            except grpc.RpcError as error:
                failures = calls.count_failure(from_rpc_error(error), failures)
                await pause(calls.STREAM_PAUSE_S)

    async def cancel_training(
        self, training_id: str, *, request_id: str = ""
    ) -> train_pb2.TrainingJob:
        """Cancel a job that has not ended."""
        request = train_pb2.CancelTrainingRequest(
            id=training_id, request_id=calls.new_id(request_id)
        )
        return await call(self._train.CancelTraining, request)

    # Fleet

    async def reload(
        self, model: str, *, version: str = "", request_id: str = ""
    ) -> reload_pb2.ReloadResponse:
        """Bring every replica to the Champion, or to `version`."""
        request = calls.reload(model, version, request_id)
        return await call(self._reload.Reload, request, calls.RELOAD_TIMEOUT_S)

    async def rollback(self, model: str, *, request_id: str = "") -> reload_pb2.ReloadResponse:
        """Make the previous Champion the Champion again and serve it."""
        request = reload_pb2.RollbackRequest(model=model, request_id=calls.new_id(request_id))
        return await call(self._reload.Rollback, request, calls.RELOAD_TIMEOUT_S)

    async def get_traffic(self, model: str) -> reload_pb2.Traffic:
        """The traffic split of a model."""
        return await call(self._reload.GetTraffic, reload_pb2.GetTrafficRequest(model=model))

    async def set_traffic(
        self, model: str, *, challenger_weight: int, mirror_percent: int = 0, request_id: str = ""
    ) -> reload_pb2.Traffic:
        """Change the traffic split of a model; percentages."""
        request = calls.traffic(model, challenger_weight, mirror_percent, request_id)
        return await call(self._reload.SetTraffic, request)

    async def start_canary(
        self,
        model: str,
        *,
        steps: Sequence[int],
        step_seconds: float,
        mirror_percent: int = 0,
        request_id: str = "",
    ) -> reload_pb2.Canary:
        """Let the Challenger earn its traffic in `steps`, percent; returns when it has begun."""
        request = calls.canary(model, steps, step_seconds, mirror_percent, request_id)
        return await call(self._reload.StartCanary, request)

    async def get_canary(self, model: str) -> reload_pb2.Canary:
        """The latest canary of a model."""
        return await call(self._reload.GetCanary, reload_pb2.GetCanaryRequest(model=model))

    async def stop_canary(self, model: str, *, request_id: str = "") -> reload_pb2.Canary:
        """End a canary: all traffic goes to the Champion."""
        request = reload_pb2.StopCanaryRequest(model=model, request_id=calls.new_id(request_id))
        return await call(self._reload.StopCanary, request)

    async def remove_model(
        self, model: str, *, with_rows: bool = False, request_id: str = ""
    ) -> reload_pb2.RemoveModelResponse:
        """End a model: its jobs, its turns and its versions, and with `with_rows` its table."""
        request = reload_pb2.RemoveModelRequest(
            model=model, with_rows=with_rows, request_id=calls.new_id(request_id)
        )
        return await call(self._reload.RemoveModel, request, calls.RELOAD_TIMEOUT_S)

    async def get_fleet(self) -> reload_pb2.Fleet:
        """Every replica: what it serves, and whether it gets traffic."""
        return await call(self._reload.GetFleet, reload_pb2.GetFleetRequest())

    # Rows

    async def add_examples(
        self, model: str, examples: Sequence[data_pb2.Example], *, request_id: str = ""
    ) -> data_pb2.AddExamplesResponse:
        """Add rows to a known model, all or nothing."""
        request = data_pb2.AddExamplesRequest(
            model=model, examples=examples, request_id=calls.new_id(request_id)
        )
        return await call(self._data.AddExamples, request)

    async def import_examples(
        self,
        model: str,
        examples: Iterable[data_pb2.Example],
        *,
        source: str = "client",
        no_train: bool = False,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> data_pb2.ImportExamplesResponse:
        """Import any number of rows in one transaction; makes the model when it is new."""
        messages = calls.imports(model, examples, source, no_train, request_id)
        return await call(self._data.ImportExamples, messages, timeout_s)

    async def delete_examples(
        self, model: str, texts: Sequence[str], *, request_id: str = ""
    ) -> data_pb2.DeleteExamplesResponse:
        """Delete every row whose text is one of these, exactly; 1 to 1,000 texts."""
        request = data_pb2.DeleteExamplesRequest(
            model=model, texts=texts, request_id=calls.new_id(request_id)
        )
        return await call(self._data.DeleteExamples, request)

    async def get_dataset(self, model: str) -> data_pb2.Dataset:
        """The row counts of a model."""
        return await call(self._data.GetDataset, data_pb2.GetDatasetRequest(model=model))

    async def trigger(self, model: str, *, request_id: str = "") -> data_pb2.Batch:
        """Seal a batch now and so start one turn of the loop."""
        request = data_pb2.TriggerRequest(model=model, request_id=calls.new_id(request_id))
        return await call(self._data.Trigger, request)

    async def retry(
        self, model: str, batch_id: str = "", *, request_id: str = ""
    ) -> data_pb2.Batch:
        """Send a batch again that failed or was refused; empty: the model's newest of those."""
        request = data_pb2.RetryRequest(
            model=model, batch_id=batch_id, request_id=calls.new_id(request_id)
        )
        return await call(self._data.Retry, request)

    async def list_batches(
        self, model: str = "", *, limit: int = 0, unresolved: bool = False
    ) -> list[data_pb2.Batch]:
        """The batches of a model, or of all models, newest first.

        `unresolved`: only those that nothing but `retry` moves on.
        """
        request = batch_pb2.ListBatchesRequest(model=model, limit=limit, unresolved=unresolved)
        return list((await call(self._data.ListBatches, request)).batches)

    async def list_batches_page(
        self,
        model: str = "",
        *,
        page_size: int = 0,
        page_token: str = "",
        unresolved: bool = False,
    ) -> batch_pb2.ListBatchesResponse:
        """A page of `list_batches`, with the models whose rows do not get on.

        The next page's `page_token` is `next_page_token` of this one; empty: there is no other.
        """
        request = batch_pb2.ListBatchesRequest(
            model=model, page_size=page_size, page_token=page_token, unresolved=unresolved
        )
        return await call(self._data.ListBatches, request)
