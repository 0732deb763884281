"""A model whose engine the tests steer, and an event loop for futures that nobody awaits."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from inference_svc.model.loaded_model import LoadedModel
from tests.twins.replica import SteeredClassifier, steered_model


@pytest.fixture
def classifier() -> SteeredClassifier:
    return SteeredClassifier()


@pytest.fixture
def model(tmp_path: Path, classifier: SteeredClassifier) -> LoadedModel:
    return steered_model(tmp_path, classifier)


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()
