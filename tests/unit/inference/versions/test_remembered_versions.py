"""The file of the versions that a replica served last."""

from pathlib import Path

from inference_svc.versions.remembered_versions import RememberedVersions
from tests.unit.inference.parts import TRIAL, Parts


async def test_the_served_champions_are_remembered(parts: Parts) -> None:
    await parts.reload("1")
    await parts.reload("2")
    await parts.reload("3", TRIAL)
    served = parts.served()
    assert served.version == "2"
    assert parts.remembered.read() == {"reviews": served.id}


def test_a_missing_or_damaged_file_counts_as_empty(tmp_path: Path) -> None:
    path = tmp_path / "serving.json"
    assert RememberedVersions(path).read() == {}
    for text in ('{"serving": ["', '{"serving": {"reviews": "1"}}', "[]"):
        path.write_text(text)
        assert RememberedVersions(path).read() == {}
