#!/bin/sh
# Create what compose.yaml needs and git must not hold: passwords and a self-signed certificate.
#   deploy/compose/prepare.sh [HOST NAME]
# It replaces nothing that exists.
set -eu
umask 077
cd "$(dirname "$0")/../.."
name=${1:-localhost}
secrets=deploy/compose/secrets
mkdir -p "$secrets"

if [ ! -e "$secrets/tls.key" ]; then
    openssl req -x509 -newkey rsa:3072 -nodes -days 365 -subj "/CN=$name" -addext "subjectAltName=DNS:$name" \
        -keyout "$secrets/tls.key" -out "$secrets/tls.crt" 2>/dev/null
    chmod 644 "$secrets/tls.key" "$secrets/tls.crt" # the containers read them as other users
fi
[ -e "$secrets/metrics.key" ] || : >"$secrets/metrics.key"
chmod 644 "$secrets/metrics.key"
if [ ! -e .env ]; then
    {
        echo "POSTGRES_PASSWORD=$(openssl rand -hex 24)"
        echo "GRAFANA_PASSWORD=$(openssl rand -hex 12)"
        echo "PUBLIC_HOST=$name"
    } >.env
fi
echo "now: docker compose run --rm keys create operator --scope admin"
echo "     docker compose run --rm keys create prometheus --scope read > $secrets/metrics.key"
echo "     docker compose up --detach"
