#!/bin/bash
# Runs at the first start: creates a role and a database for the mesh's services, for MLflow and for
# Airflow. psql reads the passwords from its standard input, so that no command line shows them.
set -euo pipefail
for role in mesh:training mlflow:mlflow airflow:airflow; do
  user=${role%%:*} database=${role##*:}
  password=$(cut -d: -f5 "/run/mesh/${user}_pgpass")
  psql --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres <<SQL
CREATE ROLE $user LOGIN PASSWORD '$password';
CREATE DATABASE $database OWNER $user TEMPLATE template0
  ENCODING 'UTF8' LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' LOCALE 'C';
REVOKE CONNECT ON DATABASE $database FROM PUBLIC;
SQL
done
