from google.protobuf import timestamp_pb2 as _timestamp_pb2
from mesh.v1 import reload_pb2 as _reload_pb2
from mesh.v1 import canary_pb2 as _canary_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PrepareRequest(_message.Message):
    __slots__ = ("model", "version", "role", "source")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    role: _reload_pb2.ModelRole
    source: str
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., role: _Optional[_Union[_reload_pb2.ModelRole, str]] = ..., source: _Optional[str] = ...) -> None: ...

class PrepareResponse(_message.Message):
    __slots__ = ("prepare_ms", "serving_version")
    PREPARE_MS_FIELD_NUMBER: _ClassVar[int]
    SERVING_VERSION_FIELD_NUMBER: _ClassVar[int]
    prepare_ms: float
    serving_version: str
    def __init__(self, prepare_ms: _Optional[float] = ..., serving_version: _Optional[str] = ...) -> None: ...

class ActivateRequest(_message.Message):
    __slots__ = ("model", "version", "role", "source")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    role: _reload_pb2.ModelRole
    source: str
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., role: _Optional[_Union[_reload_pb2.ModelRole, str]] = ..., source: _Optional[str] = ...) -> None: ...

class ActivateResponse(_message.Message):
    __slots__ = ("swap_ms", "from_version", "drained_requests")
    SWAP_MS_FIELD_NUMBER: _ClassVar[int]
    FROM_VERSION_FIELD_NUMBER: _ClassVar[int]
    DRAINED_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    swap_ms: float
    from_version: str
    drained_requests: int
    def __init__(self, swap_ms: _Optional[float] = ..., from_version: _Optional[str] = ..., drained_requests: _Optional[int] = ...) -> None: ...

class AbortRequest(_message.Message):
    __slots__ = ("model", "version", "role", "source", "removed")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    role: _reload_pb2.ModelRole
    source: str
    removed: bool
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., role: _Optional[_Union[_reload_pb2.ModelRole, str]] = ..., source: _Optional[str] = ..., removed: bool = ...) -> None: ...

class AbortResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetStateRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetStateResponse(_message.Message):
    __slots__ = ("replica", "device", "slots", "draining", "http_port", "unary_port", "trouble")
    REPLICA_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    HTTP_PORT_FIELD_NUMBER: _ClassVar[int]
    UNARY_PORT_FIELD_NUMBER: _ClassVar[int]
    TROUBLE_FIELD_NUMBER: _ClassVar[int]
    replica: str
    device: str
    slots: _containers.RepeatedCompositeFieldContainer[SlotState]
    draining: bool
    http_port: int
    unary_port: int
    trouble: str
    def __init__(self, replica: _Optional[str] = ..., device: _Optional[str] = ..., slots: _Optional[_Iterable[_Union[SlotState, _Mapping]]] = ..., draining: bool = ..., http_port: _Optional[int] = ..., unary_port: _Optional[int] = ..., trouble: _Optional[str] = ...) -> None: ...

class SlotState(_message.Message):
    __slots__ = ("model", "role", "version", "state", "step", "first_answer_at", "stats", "source", "run_id", "withdrawn", "detail", "memory_bytes")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    FIRST_ANSWER_AT_FIELD_NUMBER: _ClassVar[int]
    STATS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    WITHDRAWN_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    model: str
    role: _reload_pb2.ModelRole
    version: str
    state: _reload_pb2.ModelState
    step: str
    first_answer_at: _timestamp_pb2.Timestamp
    stats: SlotStats
    source: str
    run_id: str
    withdrawn: bool
    detail: str
    memory_bytes: int
    def __init__(self, model: _Optional[str] = ..., role: _Optional[_Union[_reload_pb2.ModelRole, str]] = ..., version: _Optional[str] = ..., state: _Optional[_Union[_reload_pb2.ModelState, str]] = ..., step: _Optional[str] = ..., first_answer_at: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., stats: _Optional[_Union[SlotStats, _Mapping]] = ..., source: _Optional[str] = ..., run_id: _Optional[str] = ..., withdrawn: bool = ..., detail: _Optional[str] = ..., memory_bytes: _Optional[int] = ...) -> None: ...

class SlotStats(_message.Message):
    __slots__ = ("since", "answered", "failed", "texts", "latency", "compute", "labels", "compared", "agreed", "disagreed", "not_compared", "key_buckets", "key_bucket_labels")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    SINCE_FIELD_NUMBER: _ClassVar[int]
    ANSWERED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    LATENCY_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    COMPARED_FIELD_NUMBER: _ClassVar[int]
    AGREED_FIELD_NUMBER: _ClassVar[int]
    DISAGREED_FIELD_NUMBER: _ClassVar[int]
    NOT_COMPARED_FIELD_NUMBER: _ClassVar[int]
    KEY_BUCKETS_FIELD_NUMBER: _ClassVar[int]
    KEY_BUCKET_LABELS_FIELD_NUMBER: _ClassVar[int]
    since: _timestamp_pb2.Timestamp
    answered: int
    failed: int
    texts: int
    latency: _containers.RepeatedScalarFieldContainer[int]
    compute: _containers.RepeatedScalarFieldContainer[int]
    labels: _containers.ScalarMap[str, int]
    compared: int
    agreed: int
    disagreed: int
    not_compared: int
    key_buckets: _containers.RepeatedCompositeFieldContainer[KeyBucket]
    key_bucket_labels: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, since: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., answered: _Optional[int] = ..., failed: _Optional[int] = ..., texts: _Optional[int] = ..., latency: _Optional[_Iterable[int]] = ..., compute: _Optional[_Iterable[int]] = ..., labels: _Optional[_Mapping[str, int]] = ..., compared: _Optional[int] = ..., agreed: _Optional[int] = ..., disagreed: _Optional[int] = ..., not_compared: _Optional[int] = ..., key_buckets: _Optional[_Iterable[_Union[KeyBucket, _Mapping]]] = ..., key_bucket_labels: _Optional[_Iterable[str]] = ...) -> None: ...

class KeyBucket(_message.Message):
    __slots__ = ("answered", "failed", "latency", "compute", "labels", "agreed", "disagreed")
    ANSWERED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    LATENCY_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    AGREED_FIELD_NUMBER: _ClassVar[int]
    DISAGREED_FIELD_NUMBER: _ClassVar[int]
    answered: int
    failed: int
    latency: _containers.RepeatedScalarFieldContainer[int]
    compute: _containers.RepeatedScalarFieldContainer[int]
    labels: _containers.RepeatedScalarFieldContainer[int]
    agreed: int
    disagreed: int
    def __init__(self, answered: _Optional[int] = ..., failed: _Optional[int] = ..., latency: _Optional[_Iterable[int]] = ..., compute: _Optional[_Iterable[int]] = ..., labels: _Optional[_Iterable[int]] = ..., agreed: _Optional[int] = ..., disagreed: _Optional[int] = ...) -> None: ...
