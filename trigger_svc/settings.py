"""Settings of the trigger service, read from `TRIGGER_…`."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from service_kit.settings import MlflowSettings


class TriggerSettings(MlflowSettings):
    """The settings of the trigger service."""

    model_config = SettingsConfigDict(env_prefix="TRIGGER_")

    database_url: str = "postgresql:///training"
    """URL of the database with the training tables; no PgBouncer in transaction mode."""

    airflow_url: str = "http://127.0.0.1:8080"
    """Airflow's API server."""

    airflow_user: str = "admin"
    """Airflow user that the bridge logs in as."""

    airflow_password: str = ""
    """Password of that user; prefer airflow_password_file."""

    airflow_password_file: Path | None = None
    """File with the password, or SimpleAuthManager's JSON file of all passwords. The bridge reads
    it again at each login."""

    dag_id: str = "machine-learning-training-pipeline"
    """DAG of which each batch starts a run."""

    seal_rows: int = 10_000
    """Rows that seal a batch at once; mesh.models.seal_rows overrides it for one model. The number
    is high because a training reads all rows of the table anyway: 25,000 inserts in a minute are
    3 runs."""

    seal_quiet_ms: int = 2_000
    """Milliseconds without a new row after which a batch is sealed; mesh.models.seal_quiet_ms
    overrides it for one model."""

    seal_age_ms: int = 60_000
    """Age of the oldest waiting row, in milliseconds, at which a batch is sealed;
    mesh.models.seal_age_ms overrides it for one model."""

    keep_days: int = Field(default=30, ge=1)
    """Days after which the bridge deletes batches that have ended, records of deleted rows, and
    stored answers; a model's newest 100 batches stay."""

    import_max_bytes: int = 4 * 1024**3
    """Bytes of rows that one import may have."""

    imports_max_bytes: int = 16 * 1024**3
    """Bytes of rows that all imports under way may have together; they lie in the folder of the
    next setting. One caller's imports may have half of them, and always one whole import."""

    state_dir: Path | None = None
    """Folder where imports are spooled; empty: the system's temporary folder."""
