#!/usr/bin/env bash
# All that is to be measured on a GPU, within nine minutes: bash benchmarks/gpu.sh FOLDER
set -u
folder=${1:-runs/gpu}
shift || true
timeout 520 python -m benchmarks.gpu --out "$folder" "$@"
