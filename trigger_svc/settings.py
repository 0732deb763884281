"""Settings of the trigger service, read from `TRIGGER_…`."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from service_kit.settings import ServiceSettings


class TriggerSettings(ServiceSettings):
    """Everything that the trigger service can be told."""

    model_config = SettingsConfigDict(env_prefix="TRIGGER_")

    database_url: str = "postgresql:///training"
    """URL of the database with the training tables; no PgBouncer in transaction mode."""

    mlflow_url: str = "http://127.0.0.1:5001"
    """MLflow's tracking server."""

    airflow_url: str = "http://127.0.0.1:8080"
    """Airflow's API server."""

    airflow_user: str = "admin"
    """User who posts the runs."""

    airflow_password: str = ""
    """Password of that user; airflow_password_file is the better place."""

    airflow_password_file: Path | None = None
    """File with the password, or SimpleAuthManager's JSON file of all passwords; read anew at
    each login."""

    dag_id: str = "machine-learning-training-pipeline"
    """DAG that a batch starts."""

    seal_rows: int = 10_000
    """Rows that seal a batch at once; mesh.models.seal_rows overrides it for one model. Many, for a
    training takes all rows of the table anyway: 25,000 inserts in a minute are 3 runs."""

    seal_quiet_ms: int = 2_000
    """Milliseconds without a new row that seal a batch; mesh.models.seal_quiet_ms overrides."""

    seal_age_ms: int = 60_000
    """Age of the oldest waiting row that seals a batch; mesh.models.seal_age_ms overrides."""

    keep_days: int = Field(default=30, ge=1)
    """Days after which batches that have ended, recorded deletions and given answers are
    forgotten; a model's newest 100 batches stay."""

    import_max_bytes: int = 4 * 1024**3
    """Most bytes of rows that one import may have."""

    state_dir: Path | None = None
    """Folder where imports are spooled; empty: the system's temporary folder."""
