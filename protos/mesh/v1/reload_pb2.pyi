from google.api import annotations_pb2 as _annotations_pb2
from mesh.v1 import canary_pb2 as _canary_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union
from mesh.v1.canary_pb2 import StartCanaryRequest as StartCanaryRequest
from mesh.v1.canary_pb2 import GetCanaryRequest as GetCanaryRequest
from mesh.v1.canary_pb2 import StopCanaryRequest as StopCanaryRequest
from mesh.v1.canary_pb2 import Canary as Canary
from mesh.v1.canary_pb2 import CanaryComparison as CanaryComparison
from mesh.v1.canary_pb2 import CanarySlice as CanarySlice
from mesh.v1.canary_pb2 import CanaryTest as CanaryTest
from mesh.v1.canary_pb2 import CanaryState as CanaryState

DESCRIPTOR: _descriptor.FileDescriptor
CANARY_STATE_UNSPECIFIED: _canary_pb2.CanaryState
CANARY_STATE_RUNNING: _canary_pb2.CanaryState
CANARY_STATE_PROMOTED: _canary_pb2.CanaryState
CANARY_STATE_ROLLED_BACK: _canary_pb2.CanaryState
CANARY_STATE_PAUSED: _canary_pb2.CanaryState
CANARY_STATE_STOPPED: _canary_pb2.CanaryState

class ModelRole(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODEL_ROLE_UNSPECIFIED: _ClassVar[ModelRole]
    MODEL_ROLE_CHAMPION: _ClassVar[ModelRole]
    MODEL_ROLE_CHALLENGER: _ClassVar[ModelRole]

class ModelState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODEL_STATE_UNSPECIFIED: _ClassVar[ModelState]
    MODEL_STATE_PREPARING: _ClassVar[ModelState]
    MODEL_STATE_READY: _ClassVar[ModelState]
    MODEL_STATE_SERVING: _ClassVar[ModelState]
    MODEL_STATE_FAILED: _ClassVar[ModelState]
MODEL_ROLE_UNSPECIFIED: ModelRole
MODEL_ROLE_CHAMPION: ModelRole
MODEL_ROLE_CHALLENGER: ModelRole
MODEL_STATE_UNSPECIFIED: ModelState
MODEL_STATE_PREPARING: ModelState
MODEL_STATE_READY: ModelState
MODEL_STATE_SERVING: ModelState
MODEL_STATE_FAILED: ModelState

class ReloadRequest(_message.Message):
    __slots__ = ("model", "request_id", "version")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    model: str
    request_id: str
    version: str
    def __init__(self, model: _Optional[str] = ..., request_id: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class RollbackRequest(_message.Message):
    __slots__ = ("model", "request_id")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    model: str
    request_id: str
    def __init__(self, model: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class ReloadResponse(_message.Message):
    __slots__ = ("model", "from_version", "to_version", "replicas")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    FROM_VERSION_FIELD_NUMBER: _ClassVar[int]
    TO_VERSION_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    model: str
    from_version: str
    to_version: str
    replicas: _containers.RepeatedCompositeFieldContainer[ReplicaReload]
    def __init__(self, model: _Optional[str] = ..., from_version: _Optional[str] = ..., to_version: _Optional[str] = ..., replicas: _Optional[_Iterable[_Union[ReplicaReload, _Mapping]]] = ...) -> None: ...

class ReplicaReload(_message.Message):
    __slots__ = ("replica", "from_version", "to_version", "prepare_ms", "swap_ms", "drained_requests")
    REPLICA_FIELD_NUMBER: _ClassVar[int]
    FROM_VERSION_FIELD_NUMBER: _ClassVar[int]
    TO_VERSION_FIELD_NUMBER: _ClassVar[int]
    PREPARE_MS_FIELD_NUMBER: _ClassVar[int]
    SWAP_MS_FIELD_NUMBER: _ClassVar[int]
    DRAINED_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    replica: str
    from_version: str
    to_version: str
    prepare_ms: float
    swap_ms: float
    drained_requests: int
    def __init__(self, replica: _Optional[str] = ..., from_version: _Optional[str] = ..., to_version: _Optional[str] = ..., prepare_ms: _Optional[float] = ..., swap_ms: _Optional[float] = ..., drained_requests: _Optional[int] = ...) -> None: ...

class GetTrafficRequest(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: str
    def __init__(self, model: _Optional[str] = ...) -> None: ...

class SetTrafficRequest(_message.Message):
    __slots__ = ("model", "champion_weight", "challenger_weight", "mirror_percent", "request_id")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    CHAMPION_WEIGHT_FIELD_NUMBER: _ClassVar[int]
    CHALLENGER_WEIGHT_FIELD_NUMBER: _ClassVar[int]
    MIRROR_PERCENT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    model: str
    champion_weight: int
    challenger_weight: int
    mirror_percent: int
    request_id: str
    def __init__(self, model: _Optional[str] = ..., champion_weight: _Optional[int] = ..., challenger_weight: _Optional[int] = ..., mirror_percent: _Optional[int] = ..., request_id: _Optional[str] = ...) -> None: ...

class Traffic(_message.Message):
    __slots__ = ("model", "champion_weight", "challenger_weight", "mirror_percent")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    CHAMPION_WEIGHT_FIELD_NUMBER: _ClassVar[int]
    CHALLENGER_WEIGHT_FIELD_NUMBER: _ClassVar[int]
    MIRROR_PERCENT_FIELD_NUMBER: _ClassVar[int]
    model: str
    champion_weight: int
    challenger_weight: int
    mirror_percent: int
    def __init__(self, model: _Optional[str] = ..., champion_weight: _Optional[int] = ..., challenger_weight: _Optional[int] = ..., mirror_percent: _Optional[int] = ...) -> None: ...

class RemoveModelRequest(_message.Message):
    __slots__ = ("model", "request_id", "with_rows")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    WITH_ROWS_FIELD_NUMBER: _ClassVar[int]
    model: str
    request_id: str
    with_rows: bool
    def __init__(self, model: _Optional[str] = ..., request_id: _Optional[str] = ..., with_rows: bool = ...) -> None: ...

class RemoveModelResponse(_message.Message):
    __slots__ = ("model", "versions", "rows_removed", "replicas_away")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    ROWS_REMOVED_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_AWAY_FIELD_NUMBER: _ClassVar[int]
    model: str
    versions: _containers.RepeatedScalarFieldContainer[str]
    rows_removed: bool
    replicas_away: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, model: _Optional[str] = ..., versions: _Optional[_Iterable[str]] = ..., rows_removed: bool = ..., replicas_away: _Optional[_Iterable[str]] = ...) -> None: ...

class GetFleetRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Fleet(_message.Message):
    __slots__ = ("models", "replicas")
    MODELS_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[FleetModel]
    replicas: _containers.RepeatedCompositeFieldContainer[Replica]
    def __init__(self, models: _Optional[_Iterable[_Union[FleetModel, _Mapping]]] = ..., replicas: _Optional[_Iterable[_Union[Replica, _Mapping]]] = ...) -> None: ...

class FleetModel(_message.Message):
    __slots__ = ("name", "serving_version", "champion_version", "challenger_version", "previous_version", "pinned", "detail")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SERVING_VERSION_FIELD_NUMBER: _ClassVar[int]
    CHAMPION_VERSION_FIELD_NUMBER: _ClassVar[int]
    CHALLENGER_VERSION_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_VERSION_FIELD_NUMBER: _ClassVar[int]
    PINNED_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    name: str
    serving_version: str
    champion_version: str
    challenger_version: str
    previous_version: str
    pinned: bool
    detail: str
    def __init__(self, name: _Optional[str] = ..., serving_version: _Optional[str] = ..., champion_version: _Optional[str] = ..., challenger_version: _Optional[str] = ..., previous_version: _Optional[str] = ..., pinned: bool = ..., detail: _Optional[str] = ...) -> None: ...

class Replica(_message.Message):
    __slots__ = ("id", "address", "healthy", "eligible", "device", "models", "detail")
    ID_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    HEALTHY_FIELD_NUMBER: _ClassVar[int]
    ELIGIBLE_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    id: str
    address: str
    healthy: bool
    eligible: bool
    device: str
    models: _containers.RepeatedCompositeFieldContainer[ReplicaModel]
    detail: str
    def __init__(self, id: _Optional[str] = ..., address: _Optional[str] = ..., healthy: bool = ..., eligible: bool = ..., device: _Optional[str] = ..., models: _Optional[_Iterable[_Union[ReplicaModel, _Mapping]]] = ..., detail: _Optional[str] = ...) -> None: ...

class ReplicaModel(_message.Message):
    __slots__ = ("name", "role", "version", "state", "step", "run_id", "detail")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    name: str
    role: ModelRole
    version: str
    state: ModelState
    step: str
    run_id: str
    detail: str
    def __init__(self, name: _Optional[str] = ..., role: _Optional[_Union[ModelRole, str]] = ..., version: _Optional[str] = ..., state: _Optional[_Union[ModelState, str]] = ..., step: _Optional[str] = ..., run_id: _Optional[str] = ..., detail: _Optional[str] = ...) -> None: ...
