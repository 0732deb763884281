"""The folder of the DAG is no package: it is put on the path, as Airflow does it."""

import sys

from tests.real_parts.airflow import DAGS

sys.path.insert(0, str(DAGS))
