"""What the processor offers."""

from pathlib import Path

import pytest

from inference_svc.engines.cpu_features import has_bf16


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [
        ("processor : 0\nflags\t\t: fpu amx_bf16 amx_tile\n", True),
        ("flags : fpu avx512f avx512_bf16\n", True),
        ("Features : fp asimd bf16\n", True),
        ("flags : fpu avx512f\n", False),
        ("", False),
    ],
)
def test_bf16_is_taken_where_the_processor_computes_it(
    tmp_path: Path, cpuinfo: str, expected: bool
) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(cpuinfo)
    assert has_bf16(path) is expected
