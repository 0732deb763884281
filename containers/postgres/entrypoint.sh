#!/bin/bash
# Lets the server's own user read the secrets, which belong to whoever runs the other containers,
# then goes on as the image does. The copies are in memory.
set -euo pipefail
install -d -o postgres -g postgres -m 0700 /run/mesh
install -d -o postgres -g postgres -m 2775 /run/postgresql
for secret in /run/secrets/*; do
  install -o postgres -g postgres -m 0400 "$secret" /run/mesh/
done
exec docker-entrypoint.sh "$@"
