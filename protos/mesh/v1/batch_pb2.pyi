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

class ModelTrouble(_message.Message):
    __slots__ = ("model", "message", "since")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    model: str
    message: str
    since: _timestamp_pb2.Timestamp
    def __init__(self, model: _Optional[str] = ..., message: _Optional[str] = ..., since: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ListBatchesRequest(_message.Message):
    __slots__ = ("model", "limit", "unresolved", "page_size", "page_token")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    UNRESOLVED_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    model: str
    limit: int
    unresolved: bool
    page_size: int
    page_token: str
    def __init__(self, model: _Optional[str] = ..., limit: _Optional[int] = ..., unresolved: bool = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListBatchesResponse(_message.Message):
    __slots__ = ("batches", "next_page_token", "troubles")
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TROUBLES_FIELD_NUMBER: _ClassVar[int]
    batches: _containers.RepeatedCompositeFieldContainer[Batch]
    next_page_token: str
    troubles: _containers.RepeatedCompositeFieldContainer[ModelTrouble]
    def __init__(self, batches: _Optional[_Iterable[_Union[Batch, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., troubles: _Optional[_Iterable[_Union[ModelTrouble, _Mapping]]] = ...) -> None: ...
