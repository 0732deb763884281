"""The Airflow in memory before which the trigger service of a test stands."""

import pytest

from trigger_svc.bridge.airflow_memory import MemoryAirflow


@pytest.fixture
def airflow() -> MemoryAirflow:
    return MemoryAirflow()
