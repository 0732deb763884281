"""The list of models that trainings may start from. Only the operator writes it.

A caller gives a name of the list, never a path or a hub id of its own: weights can be read back
from what was trained on them, and the operator's hub token opens private models.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from service_kit.errors import InvalidArgument

PACKAGED = "minilm"  # name of the encoder that is installed with the service, always in the list
MAX_MODELS = 100
SHOWN_NAMES = 20  # in the error about an unlisted name

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?")
_HUB_MODEL = re.compile(rf"(?P<id>{_NAME.pattern})@(?P<revision>[0-9a-f]{{40}})")


@dataclass(frozen=True)
class BaseModel:
    """One model of the list: the packaged encoder, a folder, or a model of the hub."""

    name: str
    folder: str = ""
    hub_id: str = ""
    revision: str = ""  # commit of the hub model: 40 hexadecimal digits

    @property
    def record(self) -> str:
        """How runs, versions and golden sets name it; empty for the packaged encoder."""
        if self.hub_id:
            return f"{self.hub_id}@{self.revision}"
        return self.name if self.folder else ""


@dataclass(frozen=True)
class BaseModels:
    """The list. `default` is what trainings start from whose caller names none."""

    by_name: Mapping[str, BaseModel]
    default: BaseModel

    @classmethod
    def parse(cls, listed: str, default: str) -> "BaseModels":
        """Read TRAINING_BASE_MODELS, entries between commas, and TRAINING_BASE_MODEL, a name of
        the list or one more entry. Raises ValueError.
        """
        by_name: dict[str, BaseModel] = {}
        for entry in filter(None, (part.strip() for part in listed.split(","))):
            model = _parse_entry(entry)
            if model.name in by_name or model.name == PACKAGED:
                raise ValueError(f"the name {model.name} is given to two base models; rename one")
            by_name[model.name] = model
        if len(by_name) > MAX_MODELS:
            raise ValueError(f"there are {len(by_name)} base models; at most {MAX_MODELS} are read")
        by_name[PACKAGED] = BaseModel(PACKAGED)
        chosen = default.strip() or PACKAGED
        if chosen not in by_name:
            model = _parse_entry(chosen, nameless_folder=True)
            by_name.setdefault(model.name, model)
            return cls(by_name, model)
        return cls(by_name, by_name[chosen])

    def find(self, name: str) -> BaseModel:
        """Return the model that a caller names, the default for an empty name.

        Raises InvalidArgument, in the same words for every name that is not listed.
        """
        if not name:
            return self.default
        if (model := self.by_name.get(name)) is not None:
            return model
        names = sorted(self.by_name)
        more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
        raise InvalidArgument(
            "params.base_model",
            f"is not a base model of this mesh; there are {', '.join(names[:SHOWN_NAMES])}{more}. "
            "The operator lists others in TRAINING_BASE_MODELS",
        )


def _parse_entry(entry: str, *, nameless_folder: bool = False) -> BaseModel:
    name, equals, source = (part.strip() for part in entry.rpartition("="))
    if equals and not _NAME.fullmatch(name):
        raise ValueError(
            f"{entry!r} has a name that is not made of letters, digits and . _ - with at most one /"
        )
    if (hub := _HUB_MODEL.fullmatch(source)) is not None:
        return BaseModel(name or hub["id"], hub_id=hub["id"], revision=hub["revision"])
    if source.startswith("/"):
        if not (name or nameless_folder):
            raise ValueError(f"the folder {source!r} has no name; write NAME={source}")
        return BaseModel(name or Path(source).name or "default", folder=source)
    raise ValueError(
        f"{entry!r} is neither NAME=/FOLDER, from the root of the file system, nor HUB_ID@COMMIT "
        "or NAME=HUB_ID@COMMIT, with the 40 hexadecimal digits of a commit of the hub model"
    )


PACKAGED_ONLY = BaseModels.parse("", "")
