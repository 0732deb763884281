from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CanaryState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CANARY_STATE_UNSPECIFIED: _ClassVar[CanaryState]
    CANARY_STATE_RUNNING: _ClassVar[CanaryState]
    CANARY_STATE_PROMOTED: _ClassVar[CanaryState]
    CANARY_STATE_ROLLED_BACK: _ClassVar[CanaryState]
    CANARY_STATE_PAUSED: _ClassVar[CanaryState]
    CANARY_STATE_STOPPED: _ClassVar[CanaryState]
CANARY_STATE_UNSPECIFIED: CanaryState
CANARY_STATE_RUNNING: CanaryState
CANARY_STATE_PROMOTED: CanaryState
CANARY_STATE_ROLLED_BACK: CanaryState
CANARY_STATE_PAUSED: CanaryState
CANARY_STATE_STOPPED: CanaryState

class StartCanaryRequest(_message.Message):
    __slots__ = ("model", "steps", "step_seconds", "mirror_percent", "request_id")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    STEP_SECONDS_FIELD_NUMBER: _ClassVar[int]
    MIRROR_PERCENT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    model: str
    steps: _containers.RepeatedScalarFieldContainer[int]
    step_seconds: float
    mirror_percent: int
    request_id: str
    def __init__(self, model: _Optional[str] = ..., steps: _Optional[_Iterable[int]] = ..., step_seconds: _Optional[float] = ..., mirror_percent: _Optional[int] = ..., request_id: _Optional[str] = ...) -> None: ...

class GetCanaryRequest(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: str
    def __init__(self, model: _Optional[str] = ...) -> None: ...

class StopCanaryRequest(_message.Message):
    __slots__ = ("model", "request_id")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    model: str
    request_id: str
    def __init__(self, model: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class Canary(_message.Message):
    __slots__ = ("model", "version", "champion_version", "state", "step", "steps", "step_seconds", "mirror_percent", "challenger_weight", "reason", "started_at", "updated_at", "comparison", "request_id")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CHAMPION_VERSION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    STEP_SECONDS_FIELD_NUMBER: _ClassVar[int]
    MIRROR_PERCENT_FIELD_NUMBER: _ClassVar[int]
    CHALLENGER_WEIGHT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    UPDATED_AT_FIELD_NUMBER: _ClassVar[int]
    COMPARISON_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    champion_version: str
    state: CanaryState
    step: int
    steps: _containers.RepeatedScalarFieldContainer[int]
    step_seconds: float
    mirror_percent: int
    challenger_weight: int
    reason: str
    started_at: _timestamp_pb2.Timestamp
    updated_at: _timestamp_pb2.Timestamp
    comparison: CanaryComparison
    request_id: str
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., champion_version: _Optional[str] = ..., state: _Optional[_Union[CanaryState, str]] = ..., step: _Optional[int] = ..., steps: _Optional[_Iterable[int]] = ..., step_seconds: _Optional[float] = ..., mirror_percent: _Optional[int] = ..., challenger_weight: _Optional[int] = ..., reason: _Optional[str] = ..., started_at: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., updated_at: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., comparison: _Optional[_Union[CanaryComparison, _Mapping]] = ..., request_id: _Optional[str] = ...) -> None: ...

class CanaryComparison(_message.Message):
    __slots__ = ("champion", "challenger", "compared_texts", "disagreed_texts", "allowed_disagreement", "tests")
    CHAMPION_FIELD_NUMBER: _ClassVar[int]
    CHALLENGER_FIELD_NUMBER: _ClassVar[int]
    COMPARED_TEXTS_FIELD_NUMBER: _ClassVar[int]
    DISAGREED_TEXTS_FIELD_NUMBER: _ClassVar[int]
    ALLOWED_DISAGREEMENT_FIELD_NUMBER: _ClassVar[int]
    TESTS_FIELD_NUMBER: _ClassVar[int]
    champion: CanarySlice
    challenger: CanarySlice
    compared_texts: int
    disagreed_texts: int
    allowed_disagreement: float
    tests: _containers.RepeatedCompositeFieldContainer[CanaryTest]
    def __init__(self, champion: _Optional[_Union[CanarySlice, _Mapping]] = ..., challenger: _Optional[_Union[CanarySlice, _Mapping]] = ..., compared_texts: _Optional[int] = ..., disagreed_texts: _Optional[int] = ..., allowed_disagreement: _Optional[float] = ..., tests: _Optional[_Iterable[_Union[CanaryTest, _Mapping]]] = ...) -> None: ...

class CanarySlice(_message.Message):
    __slots__ = ("answered", "failed", "p50_ms", "p99_ms", "labels")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    ANSWERED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    P50_MS_FIELD_NUMBER: _ClassVar[int]
    P99_MS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    answered: int
    failed: int
    p50_ms: float
    p99_ms: float
    labels: _containers.ScalarMap[str, int]
    def __init__(self, answered: _Optional[int] = ..., failed: _Optional[int] = ..., p50_ms: _Optional[float] = ..., p99_ms: _Optional[float] = ..., labels: _Optional[_Mapping[str, int]] = ...) -> None: ...

class CanaryTest(_message.Message):
    __slots__ = ("criterion", "p_value", "p_value_limit", "failed", "detail")
    CRITERION_FIELD_NUMBER: _ClassVar[int]
    P_VALUE_FIELD_NUMBER: _ClassVar[int]
    P_VALUE_LIMIT_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    criterion: str
    p_value: float
    p_value_limit: float
    failed: bool
    detail: str
    def __init__(self, criterion: _Optional[str] = ..., p_value: _Optional[float] = ..., p_value_limit: _Optional[float] = ..., failed: bool = ..., detail: _Optional[str] = ...) -> None: ...
