"""The small computation by which an engine shows that its device works."""

import pytest

from inference_svc.engines.choice import create_engine


@pytest.mark.parametrize("engine", ["openvino", "torch", "auto"])
@pytest.mark.parametrize("precision", ["fp32", "auto"])
def test_an_engine_that_works_passes_its_check(engine: str, precision: str) -> None:
    create_engine(engine, "cpu", precision, threads=1).check()


def test_an_engine_that_computes_wrongly_fails_its_check(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    engine = create_engine("torch", "cpu", "fp32", threads=1)
    monkeypatch.setattr(torch, "ones", torch.zeros)
    with pytest.raises(RuntimeError, match="cpu computes wrong results"):
        engine.check()
