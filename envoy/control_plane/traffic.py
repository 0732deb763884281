"""Which share of a model's traffic goes to whom."""

from dataclasses import dataclass

from control_plane.registry import ModelRegistry
from service_kit.errors import InvalidArgument, NotFound, Unimplemented


@dataclass(frozen=True)
class Split:
    """Weights of Champion and Challenger, which make 100, and the share that is mirrored."""

    champion: int = 100
    challenger: int = 0
    mirror_percent: int = 0


ALL_TO_THE_CHAMPION = Split()


class TrafficControl:
    """Answers for the split of each model, which is all to the Champion in this release."""

    def __init__(self, registry: ModelRegistry) -> None:
        self._registry = registry

    async def get(self, model: str) -> Split:
        """Return the split. Raises NotFound for an unknown model."""
        if await self._registry.find_model(model) is None:
            raise NotFound(f"no model {model!r} is registered")
        return ALL_TO_THE_CHAMPION

    async def set(self, model: str, split: Split) -> Split:
        """Change the split. Raises InvalidArgument, NotFound, and Unimplemented for any split."""
        _check(split)
        await self.get(model)
        if split != ALL_TO_THE_CHAMPION:
            raise Unimplemented(
                "this release sends all traffic to the Champion: only champion_weight 100, "
                "challenger_weight 0 and mirror_percent 0 can be set"
            )
        return split


def _check(split: Split) -> None:
    shares = {
        "champion_weight": split.champion,
        "challenger_weight": split.challenger,
        "mirror_percent": split.mirror_percent,
    }
    for field, share in shares.items():
        if not 0 <= share <= 100:
            raise InvalidArgument(field, f"is {share}; it must be 0 to 100")
    if split.champion + split.challenger != 100:
        raise InvalidArgument(
            "champion_weight",
            f"and challenger_weight make {split.champion + split.challenger}; they must make 100",
        )
