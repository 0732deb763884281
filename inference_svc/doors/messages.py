"""Turns the replica's values into messages of mesh.v1."""

from functools import lru_cache

import numpy as np

from inference_svc.batching.job import Timing
from inference_svc.serving.replica import Answer
from inference_svc.serving.slots import ServedVersion
from inference_svc.versions.identity import VersionInfo
from mesh.v1 import predict_pb2


def predict_response(answer: Answer, all_scores: bool, replica: str) -> predict_pb2.PredictResponse:
    """Build the response of one request."""
    classified = answer.classified
    labels = answer.served.prepared.model.spec.labels
    predictions = [
        predict_pb2.Prediction(label=labels[column], score=score, truncated=truncated)
        for column, score, truncated in zip(
            classified.best, classified.top, classified.truncated, strict=True
        )
    ]
    if all_scores:
        for prediction, row in zip(predictions, classified.rows, strict=True):
            prediction.scores.extend(
                predict_pb2.LabelScore(label=labels[column], score=float(row[column]))
                for column in np.argsort(-row, kind="stable")
            )
    return predict_pb2.PredictResponse(
        predictions=predictions,
        model=_served_model(answer.served.prepared.info, answer.served.slot.alias),
        replica=replica,
        timing=_timing(classified.timing),
    )


def model_message(served: ServedVersion) -> predict_pb2.Model:
    """Describe a served version."""
    info, model = served.prepared.info, served.prepared.model
    message = predict_pb2.Model(
        name=info.name,
        version=info.version,
        alias=served.slot.alias,
        labels=model.spec.labels,
        max_tokens=model.spec.max_tokens,
        engine=model.classifier.engine,
        run_id=info.run_id,
        batch_id=info.batch_id,
    )
    message.loaded_at.FromDatetime(served.loaded_at)
    return message


@lru_cache(maxsize=256)
def _served_model(info: VersionInfo, alias: str) -> predict_pb2.ServedModel:
    return predict_pb2.ServedModel(
        name=info.name,
        version=info.version,
        alias=alias,
        run_id=info.run_id,
        batch_id=info.batch_id,
    )


def _timing(timing: Timing) -> predict_pb2.Timing:
    return predict_pb2.Timing(
        queue_ms=timing.queue_ms,
        tokenize_ms=timing.tokenize_ms,
        compute_ms=timing.compute_ms,
        batch_texts=timing.batch_texts,
        pad_waste=timing.pad_waste,
    )
