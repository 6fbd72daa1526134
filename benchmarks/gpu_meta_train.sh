#!/usr/bin/env bash
# Nine minutes of meta-training on a GPU: bash benchmarks/gpu_meta_train.sh FOLDER [OPTIONS]
# Goes on from the rule in the folder, if one is there.
set -u
folder=${1:-runs/gpu_meta_train}
shift || true
begin=()
if [ -e "$folder/rule.safetensors" ]; then
  begin=(--rule "$folder/rule.safetensors")
fi
exec python -m benchmarks.gpu_meta_train --minutes 8.7 --out "$folder" "${begin[@]}" "$@"
