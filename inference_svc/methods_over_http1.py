"""The unary methods that Envoy calls most often, over a hop that is cheaper than gRPC's."""

from inference import open_inference_pb2 as oip
from inference_svc.doors.oip.grpc_servicer import OpenInferenceServicer
from inference_svc.doors.predict_servicer import PredictServicer
from mesh.v1 import predict_pb2
from service_kit.unary_over_http1.server import UnaryServer
from service_kit.unary_over_http1.unary_method import UnaryMethod


def unary_server(predict: PredictServicer, inference: OpenInferenceServicer) -> UnaryServer:
    """Return the server of these methods; the same servicers are behind the gRPC server."""
    methods = (
        ("mesh.v1.PredictService/Predict", predict.Predict, predict_pb2.PredictRequest),
        ("inference.GRPCInferenceService/ModelInfer", inference.ModelInfer, oip.ModelInferRequest),
    )
    return UnaryServer(
        {
            f"/{path}": UnaryMethod.of(f"/{path}", behaviour, message.FromString)
            for path, behaviour, message in methods
        }
    )
