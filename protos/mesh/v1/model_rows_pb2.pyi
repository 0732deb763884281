from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class ForgetRequest(_message.Message):
    __slots__ = ("model", "with_rows")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    WITH_ROWS_FIELD_NUMBER: _ClassVar[int]
    model: str
    with_rows: bool
    def __init__(self, model: _Optional[str] = ..., with_rows: bool = ...) -> None: ...

class ForgetResponse(_message.Message):
    __slots__ = ("known", "rows_removed")
    KNOWN_FIELD_NUMBER: _ClassVar[int]
    ROWS_REMOVED_FIELD_NUMBER: _ClassVar[int]
    known: bool
    rows_removed: bool
    def __init__(self, known: bool = ..., rows_removed: bool = ...) -> None: ...
