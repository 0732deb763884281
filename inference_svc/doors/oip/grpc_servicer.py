"""The Open Inference Protocol over gRPC, as GRPCInferenceService; only translates messages."""

from collections.abc import Iterator, Mapping, Sequence

from inference import open_inference_pb2 as pb
from inference import open_inference_pb2_grpc
from inference_svc.doors import call_metadata
from inference_svc.doors.oip.parameters import CONTENT_TYPE, check_parameters
from inference_svc.doors.oip.protocol import EXTENSIONS, SERVER_NAME, SERVER_VERSION, OpenInference
from inference_svc.doors.oip.tensors import (
    BOOL,
    BYTES,
    INPUT,
    SHOWN_NAMES,
    TEXT,
    OutputTensor,
    Tensor,
    check_count,
    check_input,
    check_outputs,
    output_tensor,
    split_elements,
    texts_of,
)
from service_kit.errors import InvalidArgument
from service_kit.interceptor import Context


class OpenInferenceServicer(open_inference_pb2_grpc.GRPCInferenceServiceServicer):
    """See protos/inference/open_inference.proto."""

    def __init__(self, inference: OpenInference) -> None:
        self._inference = inference

    async def ServerLive(
        self, request: pb.ServerLiveRequest, context: Context
    ) -> pb.ServerLiveResponse:
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(
        self, request: pb.ServerReadyRequest, context: Context
    ) -> pb.ServerReadyResponse:
        return pb.ServerReadyResponse(ready=self._inference.ready)

    async def ModelReady(
        self, request: pb.ModelReadyRequest, context: Context
    ) -> pb.ModelReadyResponse:
        ready = await self._inference.is_ready(request.name, request.version)
        return pb.ModelReadyResponse(ready=ready)

    async def ServerMetadata(
        self, request: pb.ServerMetadataRequest, context: Context
    ) -> pb.ServerMetadataResponse:
        return pb.ServerMetadataResponse(
            name=SERVER_NAME, version=SERVER_VERSION, extensions=EXTENSIONS
        )

    async def ModelMetadata(
        self, request: pb.ModelMetadataRequest, context: Context
    ) -> pb.ModelMetadataResponse:
        model = await self._inference.describe(request.name, request.version)
        return pb.ModelMetadataResponse(
            name=model.name,
            versions=model.versions,
            platform=model.platform,
            inputs=[_metadata(INPUT)],
            outputs=[_metadata(tensor) for tensor in model.outputs],
        )

    async def ModelInfer(
        self, request: pb.ModelInferRequest, context: Context
    ) -> pb.ModelInferResponse:
        wanted = _wanted(request)
        texts = _texts(request)
        routing = call_metadata.routing(context)
        answer = await self._inference.infer(
            request.model_name,
            request.model_version,
            texts,
            routing.role,
            call_metadata.deadline(context),
            routing.mirrored,
            routing.bucket,
        )
        context.set_trailing_metadata(self._inference.headers(answer))
        raw = bool(request.raw_input_contents)
        tensors = [output_tensor(name, answer) for name in wanted]
        return pb.ModelInferResponse(
            model_name=request.model_name,
            model_version=answer.served.version,
            id=request.id,
            parameters=_parameters(self._inference.parameters(answer)),
            outputs=[_output(tensor, with_contents=not raw) for tensor in tensors],
            raw_output_contents=[tensor.raw for tensor in tensors] if raw else None,
        )


def _wanted(request: pb.ModelInferRequest) -> tuple[str, ...]:
    check_parameters("parameters", _values(request.parameters), CONTENT_TYPE)
    check_count(request.outputs)
    for index, output in enumerate(request.outputs):
        check_parameters(f"outputs[{index}].parameters", _values(output.parameters))
    return check_outputs([output.name for output in request.outputs])


def _texts(request: pb.ModelInferRequest) -> list[str]:
    names = [tensor.name for tensor in request.inputs[:SHOWN_NAMES]]
    first = request.inputs[0] if request.inputs else pb.ModelInferRequest.InferInputTensor()
    count = check_input(names, first.datatype, list(first.shape))
    check_parameters(f"{TEXT}.parameters", _values(first.parameters), CONTENT_TYPE)
    raw: Sequence[bytes] = request.raw_input_contents
    if raw:
        if len(raw) != 1 or first.HasField("contents"):
            problem = f"has {len(raw)} entries; one is needed for each input, and no contents then"
            raise InvalidArgument("raw_input_contents", problem)
        return texts_of(split_elements(raw[0], count), count)
    for other, _ in first.contents.ListFields():
        if other.name != "bytes_contents":
            raise InvalidArgument(f"{TEXT}.contents", f"has {other.name}; send bytes_contents")
    return texts_of(first.contents.bytes_contents, count)


def _values(parameters: Mapping[str, pb.InferParameter]) -> Iterator[tuple[str, object]]:
    """Names and values of parameters; None for one that has no value."""
    return ((name, _value(parameter)) for name, parameter in parameters.items())


def _value(parameter: pb.InferParameter) -> object:
    choice = parameter.WhichOneof("parameter_choice")
    return None if choice is None else getattr(parameter, choice)


def _metadata(tensor: Tensor) -> pb.ModelMetadataResponse.TensorMetadata:
    return pb.ModelMetadataResponse.TensorMetadata(
        name=tensor.name, datatype=tensor.datatype, shape=tensor.shape
    )


def _output(tensor: OutputTensor, with_contents: bool) -> pb.ModelInferResponse.InferOutputTensor:
    output = pb.ModelInferResponse.InferOutputTensor(
        name=tensor.name,
        datatype=tensor.datatype,
        shape=tensor.shape,
        parameters=_parameters(tensor.parameters),
    )
    if with_contents and tensor.datatype == BYTES:
        output.contents.bytes_contents.extend(str(value).encode() for value in tensor.values)
    elif with_contents and tensor.datatype == BOOL:
        output.contents.bool_contents.extend(bool(value) for value in tensor.values)
    elif with_contents:
        output.contents.fp32_contents.extend(float(value) for value in tensor.values)
    return output


def _parameters(values: Mapping[str, str]) -> dict[str, pb.InferParameter]:
    return {name: pb.InferParameter(string_param=value) for name, value in values.items()}
