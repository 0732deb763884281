from google.api import annotations_pb2 as _annotations_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class BatchReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BATCH_REASON_UNSPECIFIED: _ClassVar[BatchReason]
    BATCH_REASON_COUNT: _ClassVar[BatchReason]
    BATCH_REASON_QUIET: _ClassVar[BatchReason]
    BATCH_REASON_AGE: _ClassVar[BatchReason]
    BATCH_REASON_MANUAL: _ClassVar[BatchReason]
    BATCH_REASON_IMPORT: _ClassVar[BatchReason]

class BatchState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BATCH_STATE_UNSPECIFIED: _ClassVar[BatchState]
    BATCH_STATE_SEALED: _ClassVar[BatchState]
    BATCH_STATE_RUNNING: _ClassVar[BatchState]
    BATCH_STATE_SUCCEEDED: _ClassVar[BatchState]
    BATCH_STATE_FAILED: _ClassVar[BatchState]
    BATCH_STATE_DEAD: _ClassVar[BatchState]
BATCH_REASON_UNSPECIFIED: BatchReason
BATCH_REASON_COUNT: BatchReason
BATCH_REASON_QUIET: BatchReason
BATCH_REASON_AGE: BatchReason
BATCH_REASON_MANUAL: BatchReason
BATCH_REASON_IMPORT: BatchReason
BATCH_STATE_UNSPECIFIED: BatchState
BATCH_STATE_SEALED: BatchState
BATCH_STATE_RUNNING: BatchState
BATCH_STATE_SUCCEEDED: BatchState
BATCH_STATE_FAILED: BatchState
BATCH_STATE_DEAD: BatchState

class Example(_message.Message):
    __slots__ = ("text", "label", "split")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    SPLIT_FIELD_NUMBER: _ClassVar[int]
    text: str
    label: str
    split: str
    def __init__(self, text: _Optional[str] = ..., label: _Optional[str] = ..., split: _Optional[str] = ...) -> None: ...

class AddExamplesRequest(_message.Message):
    __slots__ = ("model", "examples", "request_id")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    model: str
    examples: _containers.RepeatedCompositeFieldContainer[Example]
    request_id: str
    def __init__(self, model: _Optional[str] = ..., examples: _Optional[_Iterable[_Union[Example, _Mapping]]] = ..., request_id: _Optional[str] = ...) -> None: ...

class AddExamplesResponse(_message.Message):
    __slots__ = ("model", "added", "request_id")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ADDED_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    model: str
    added: int
    request_id: str
    def __init__(self, model: _Optional[str] = ..., added: _Optional[int] = ..., request_id: _Optional[str] = ...) -> None: ...

class ImportExamplesRequest(_message.Message):
    __slots__ = ("header", "examples")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    header: ImportHeader
    examples: _containers.RepeatedCompositeFieldContainer[Example]
    def __init__(self, header: _Optional[_Union[ImportHeader, _Mapping]] = ..., examples: _Optional[_Iterable[_Union[Example, _Mapping]]] = ...) -> None: ...

class ImportHeader(_message.Message):
    __slots__ = ("model", "request_id", "no_train", "source")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NO_TRAIN_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    model: str
    request_id: str
    no_train: bool
    source: str
    def __init__(self, model: _Optional[str] = ..., request_id: _Optional[str] = ..., no_train: bool = ..., source: _Optional[str] = ...) -> None: ...

class ImportExamplesResponse(_message.Message):
    __slots__ = ("model", "rows", "batch", "created")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    model: str
    rows: SplitCounts
    batch: Batch
    created: bool
    def __init__(self, model: _Optional[str] = ..., rows: _Optional[_Union[SplitCounts, _Mapping]] = ..., batch: _Optional[_Union[Batch, _Mapping]] = ..., created: bool = ...) -> None: ...

class GetDatasetRequest(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: str
    def __init__(self, model: _Optional[str] = ...) -> None: ...

class Dataset(_message.Message):
    __slots__ = ("model", "rows", "labels", "pending_rows", "last_batch_id")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    PENDING_ROWS_FIELD_NUMBER: _ClassVar[int]
    LAST_BATCH_ID_FIELD_NUMBER: _ClassVar[int]
    model: str
    rows: SplitCounts
    labels: _containers.RepeatedCompositeFieldContainer[LabelCounts]
    pending_rows: int
    last_batch_id: str
    def __init__(self, model: _Optional[str] = ..., rows: _Optional[_Union[SplitCounts, _Mapping]] = ..., labels: _Optional[_Iterable[_Union[LabelCounts, _Mapping]]] = ..., pending_rows: _Optional[int] = ..., last_batch_id: _Optional[str] = ...) -> None: ...

class SplitCounts(_message.Message):
    __slots__ = ("train", "test")
    TRAIN_FIELD_NUMBER: _ClassVar[int]
    TEST_FIELD_NUMBER: _ClassVar[int]
    train: int
    test: int
    def __init__(self, train: _Optional[int] = ..., test: _Optional[int] = ...) -> None: ...

class LabelCounts(_message.Message):
    __slots__ = ("label", "train", "test")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    TRAIN_FIELD_NUMBER: _ClassVar[int]
    TEST_FIELD_NUMBER: _ClassVar[int]
    label: str
    train: int
    test: int
    def __init__(self, label: _Optional[str] = ..., train: _Optional[int] = ..., test: _Optional[int] = ...) -> None: ...

class TriggerRequest(_message.Message):
    __slots__ = ("model", "request_id")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    model: str
    request_id: str
    def __init__(self, model: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class RetryRequest(_message.Message):
    __slots__ = ("model", "batch_id", "request_id")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    BATCH_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    model: str
    batch_id: str
    request_id: str
    def __init__(self, model: _Optional[str] = ..., batch_id: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class Batch(_message.Message):
    __slots__ = ("id", "model", "rows", "reason", "state", "sealed_at", "dag_run_id", "training_id", "version", "reloaded_at", "first_answer_at", "error", "accepted_at", "ended_at", "retries")
    ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    SEALED_AT_FIELD_NUMBER: _ClassVar[int]
    DAG_RUN_ID_FIELD_NUMBER: _ClassVar[int]
    TRAINING_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    RELOADED_AT_FIELD_NUMBER: _ClassVar[int]
    FIRST_ANSWER_AT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_AT_FIELD_NUMBER: _ClassVar[int]
    ENDED_AT_FIELD_NUMBER: _ClassVar[int]
    RETRIES_FIELD_NUMBER: _ClassVar[int]
    id: str
    model: str
    rows: int
    reason: BatchReason
    state: BatchState
    sealed_at: _timestamp_pb2.Timestamp
    dag_run_id: str
    training_id: str
    version: str
    reloaded_at: _timestamp_pb2.Timestamp
    first_answer_at: _timestamp_pb2.Timestamp
    error: str
    accepted_at: _timestamp_pb2.Timestamp
    ended_at: _timestamp_pb2.Timestamp
    retries: int
    def __init__(self, id: _Optional[str] = ..., model: _Optional[str] = ..., rows: _Optional[int] = ..., reason: _Optional[_Union[BatchReason, str]] = ..., state: _Optional[_Union[BatchState, str]] = ..., sealed_at: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., dag_run_id: _Optional[str] = ..., training_id: _Optional[str] = ..., version: _Optional[str] = ..., reloaded_at: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., first_answer_at: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., error: _Optional[str] = ..., accepted_at: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., ended_at: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., retries: _Optional[int] = ...) -> None: ...

class ListBatchesRequest(_message.Message):
    __slots__ = ("model", "limit", "unresolved")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    UNRESOLVED_FIELD_NUMBER: _ClassVar[int]
    model: str
    limit: int
    unresolved: bool
    def __init__(self, model: _Optional[str] = ..., limit: _Optional[int] = ..., unresolved: bool = ...) -> None: ...

class ListBatchesResponse(_message.Message):
    __slots__ = ("batches",)
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    batches: _containers.RepeatedCompositeFieldContainer[Batch]
    def __init__(self, batches: _Optional[_Iterable[_Union[Batch, _Mapping]]] = ...) -> None: ...
