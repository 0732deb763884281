#!/bin/bash
# Copies the secrets, which belong to the user of the other containers, for the user postgres, then
# starts the server as the image does. The copies are on a tmpfs, so they are in memory only.
set -euo pipefail
install -d -o postgres -g postgres -m 0700 /run/mesh
install -d -o postgres -g postgres -m 2775 /run/postgresql
for secret in /run/secrets/*; do
  install -o postgres -g postgres -m 0400 "$secret" /run/mesh/
done
exec docker-entrypoint.sh "$@"
