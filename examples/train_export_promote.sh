#!/usr/bin/env bash
# Train a model, export it as the next version of NAME, and activate it on the server if it is not worse.
#
# examples/train_export_promote.sh NAME CONFIGURATION CLIPS [--set a.b=c ...]
#
# CLIPS is a CSV file with the columns file and label. ACTSERVE_SERVER names the server, REPOSITORY its folder of models.
set -euo pipefail
name=$1 configuration=$2 clips=$3
shift 3
out=${RUN:-runs/$name}
repository=${REPOSITORY:-model_repository}
python -m training train "$configuration" --set run.out="$out" "$@"
python -m export model --checkpoint "$out/checkpoint.pt" --name "$name" --repository "$repository"
python -m export promote "$name" --clips "$clips" --repository "$repository" --margin "${MARGIN:-0.01}" \
    --record "$out/promotions.jsonl" --server "${ACTSERVE_SERVER:-http://127.0.0.1:8080}"
