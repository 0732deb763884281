from google.api import annotations_pb2 as _annotations_pb2
from mesh.v1 import batch_pb2 as _batch_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union
from mesh.v1.batch_pb2 import Batch as Batch
from mesh.v1.batch_pb2 import ModelTrouble as ModelTrouble
from mesh.v1.batch_pb2 import ListBatchesRequest as ListBatchesRequest
from mesh.v1.batch_pb2 import ListBatchesResponse as ListBatchesResponse
from mesh.v1.batch_pb2 import BatchReason as BatchReason
from mesh.v1.batch_pb2 import BatchState as BatchState

DESCRIPTOR: _descriptor.FileDescriptor
BATCH_REASON_UNSPECIFIED: _batch_pb2.BatchReason
BATCH_REASON_COUNT: _batch_pb2.BatchReason
BATCH_REASON_QUIET: _batch_pb2.BatchReason
BATCH_REASON_AGE: _batch_pb2.BatchReason
BATCH_REASON_MANUAL: _batch_pb2.BatchReason
BATCH_REASON_IMPORT: _batch_pb2.BatchReason
BATCH_STATE_UNSPECIFIED: _batch_pb2.BatchState
BATCH_STATE_SEALED: _batch_pb2.BatchState
BATCH_STATE_RUNNING: _batch_pb2.BatchState
BATCH_STATE_SUCCEEDED: _batch_pb2.BatchState
BATCH_STATE_FAILED: _batch_pb2.BatchState
BATCH_STATE_DEAD: _batch_pb2.BatchState

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

class DeleteExamplesRequest(_message.Message):
    __slots__ = ("model", "texts", "request_id")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    model: str
    texts: _containers.RepeatedScalarFieldContainer[str]
    request_id: str
    def __init__(self, model: _Optional[str] = ..., texts: _Optional[_Iterable[str]] = ..., request_id: _Optional[str] = ...) -> None: ...

class DeleteExamplesResponse(_message.Message):
    __slots__ = ("model", "deleted", "request_id")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    DELETED_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    model: str
    deleted: int
    request_id: str
    def __init__(self, model: _Optional[str] = ..., deleted: _Optional[int] = ..., request_id: _Optional[str] = ...) -> None: ...

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
    batch: _batch_pb2.Batch
    created: bool
    def __init__(self, model: _Optional[str] = ..., rows: _Optional[_Union[SplitCounts, _Mapping]] = ..., batch: _Optional[_Union[_batch_pb2.Batch, _Mapping]] = ..., created: bool = ...) -> None: ...

class GetDatasetRequest(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: str
    def __init__(self, model: _Optional[str] = ...) -> None: ...

class Dataset(_message.Message):
    __slots__ = ("model", "rows", "labels", "pending_rows", "last_batch_id", "estimated", "unbatched_rows")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    PENDING_ROWS_FIELD_NUMBER: _ClassVar[int]
    LAST_BATCH_ID_FIELD_NUMBER: _ClassVar[int]
    ESTIMATED_FIELD_NUMBER: _ClassVar[int]
    UNBATCHED_ROWS_FIELD_NUMBER: _ClassVar[int]
    model: str
    rows: SplitCounts
    labels: _containers.RepeatedCompositeFieldContainer[LabelCounts]
    pending_rows: int
    last_batch_id: str
    estimated: bool
    unbatched_rows: int
    def __init__(self, model: _Optional[str] = ..., rows: _Optional[_Union[SplitCounts, _Mapping]] = ..., labels: _Optional[_Iterable[_Union[LabelCounts, _Mapping]]] = ..., pending_rows: _Optional[int] = ..., last_batch_id: _Optional[str] = ..., estimated: bool = ..., unbatched_rows: _Optional[int] = ...) -> None: ...

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
