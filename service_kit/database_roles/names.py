"""The roles with which the parts and the operator log in, and the databases they own."""

TRAINING = "mesh_training"
TRIGGER = "mesh_trigger"
CONTROL_PLANE = "mesh_control_plane"
OPERATOR = "mesh_operator"
"""The operator and the `mesh` command. Its sessions act as mesh_training_tables, so what the
operator makes in the schema `training` belongs to that role, of which the trigger service is a
member."""
SHARED = "mesh_shared"
"""Nobody logs in as this role: it owns the tables that several parts write."""
AUDIT = "mesh_audit"
"""Nobody logs in as this role either, and no other role is a member of it: it owns the audit, to
which every part and the operator may add rows."""
MLFLOW = "mlflow"
AIRFLOW = "airflow"

AUDIT_DAYS = 400
"""Days for which rows of the audit stay, unless MESH_AUDIT_DAYS says otherwise."""

LOGIN_ROLES = (TRAINING, TRIGGER, CONTROL_PLANE, OPERATOR, MLFLOW, AIRFLOW)

TRAINING_DATABASE = "training"
OWNED_DATABASES = {"mlflow": MLFLOW, "airflow": AIRFLOW}
"""Databases that one part has for itself, with the owner of each."""
