"""PredictService; only translates messages."""

import asyncio
from collections.abc import AsyncIterator

from inference_svc.doors import call_metadata
from inference_svc.doors.answered_by import answered_by
from inference_svc.doors.messages import model_message, predict_response
from inference_svc.doors.model_pages import page_of
from inference_svc.doors.predict_stream import PredictStreamCall
from inference_svc.serving.replica import Replica
from inference_svc.serving.slots import SlotKey
from mesh.v1 import predict_pb2 as pb
from mesh.v1 import predict_pb2_grpc
from service_kit.callers.caller import current
from service_kit.callers.shares import Shares
from service_kit.interceptor import Context, Undecodable, takes_undecodable
from service_kit.limits import check_model_name

# Streams that one caller may have at this replica. A stream carries any number of requests.
STREAMS_OF_A_CALLER = 128


class PredictServicer(predict_pb2_grpc.PredictServiceServicer):
    """See protos/mesh/v1/predict.proto."""

    def __init__(self, replica: Replica, replica_id: str, stream_limit: int) -> None:
        self._replica = replica
        self._replica_id = replica_id
        self._stream_limit = stream_limit
        self._ending = asyncio.Event()
        self._shares = Shares("streams of predictions", STREAMS_OF_A_CALLER)

    def end_streams(self) -> None:
        """Have every stream answer the requests that it has read, and end with UNAVAILABLE."""
        self._ending.set()

    async def Predict(self, request: pb.PredictRequest, context: Context) -> pb.PredictResponse:
        deadline = call_metadata.deadline(context)
        role, mirrored, bucket = call_metadata.routing(context)
        if mirrored:
            texts = list(request.texts)  # the comparison outlives the request
            answer = await self._replica.predict_mirrored(request.model, texts, deadline, bucket)
        else:
            slot = SlotKey(request.model, role)
            answer = await self._replica.predict(
                slot, request.texts, deadline=deadline, bucket=bucket
            )
        context.set_trailing_metadata(answered_by(answer.served, self._replica_id))
        return predict_response(answer, request.all_scores, self._replica_id)

    @takes_undecodable
    async def PredictStream(
        self, request_iterator: AsyncIterator[pb.PredictRequest | Undecodable], context: Context
    ) -> AsyncIterator[pb.PredictStreamResponse]:
        stream = PredictStreamCall(
            self._replica,
            self._replica_id,
            call_metadata.routing(context).role,
            self._stream_limit,
            self._ending,
        )
        with self._shares.held(context):
            async for response in stream.run(request_iterator):
                yield response

    async def ListModels(
        self, request: pb.ListModelsRequest, context: Context
    ) -> pb.ListModelsResponse:
        may = current().may
        served = [found for found in self._replica.slots.all_served() if may(found.slot.model)]
        page, next_page = page_of(served, request.page_size, request.page_token)
        return pb.ListModelsResponse(models=map(model_message, page), next_page_token=next_page)

    async def GetModel(self, request: pb.GetModelRequest, context: Context) -> pb.Model:
        name = check_model_name(request.model)
        slot = SlotKey(name, call_metadata.routing(context).role)
        served = self._replica.slots.answering(slot)
        if served is None:
            raise await self._replica.why_unserved(name)
        self._replica.check_answers(served)
        return model_message(served)
