#!/usr/bin/env bash
# One system of networks that read networks, as large as nine minutes of a GPU allow:
#   bash benchmarks/gpu_reading.sh inr|edit|cnn|rnn|relational FOLDER
# What was begun goes on when it is called again. To try it: DEVICE=cpu TINY=1 bash benchmarks/...
set -eu
system=$1
folder=${2:-runs/gpu_reading/$system}
device=${DEVICE:-cuda}
deadline=$((SECONDS + 520))

run() { # a command of meta_train, stopped when the time is over
  echo "python -m meta_train $*"
  timeout --signal=INT $((deadline > SECONDS ? deadline - SECONDS : 1)) \
    python -m meta_train "$@" --device "$device"
}

tiny() { [ -n "${TINY:-}" ]; }

inrs() {
  if tiny; then
    run zoo inr --data digits --networks 64 --steps 5 --pixels 16 --folder "$folder/zoo"
  else
    run zoo inr --networks 60000 --steps 500 --chunk 4096 --folder "$folder/zoo"
  fi
}

case $system in
  inr)
    inrs
    wide=width=64,edge_width=32,layers=4,fourier=16
    tiny && wide=width=8,layers=1
    run predict --zoo "$folder/zoo" --target class --lr 3e-3 --seeds 0 --out "$folder/predict" \
      --encoders probes "ng_gnn:$wide" "ng_gnn:$wide,positions=()" one_pass_own \
      --minutes "$(tiny && echo 0.05 || echo 1.3)"
    ;;
  edit)
    inrs
    run edit --zoo "$folder/zoo" --edit dilate --lr 3e-3 --seeds 0 --out "$folder/edit" \
      --encoders ng_gnn ng_t --minutes "$(tiny && echo 0.05 || echo 2.5)"
    ;;
  cnn)
    networks=(--networks 4000 --chunk 256)
    tiny && networks=(--data digits --size 16 --networks 12 --shortest 4 --longest 8 --test-images 50)
    run zoo cnn "${networks[@]}" --folder "$folder/zoo"
    run predict --zoo "$folder/zoo" --target accuracy --seeds 0 --out "$folder/predict" \
      --encoders statistics ng_gnn one_pass probes --minutes "$(tiny && echo 0.05 || echo 0.8)"
    ;;
  rnn)
    networks=(--scale full --chunk 256)
    emulator=(--scale full)
    tiny && networks=(--networks 12 --steps 4 --snapshots 0 4) && emulator=(--scale small)
    run zoo rnn "${networks[@]}" --folder "$folder/zoo"
    run emulate "${emulator[@]}" --zoo "$folder/zoo" --seeds 0 --out "$folder/emulate" \
      --minutes "$(tiny && echo 0.05 || echo 0.6)" --heads.minutes "$(tiny && echo 0.05 || echo 0.2)"
    ;;
  relational)
    sweep=(--graphs 20 --seeds 1 --width 512 --epochs 30)
    tiny && sweep=(--data digits --graphs 1 --named complete lattice --seeds 1 --width 64 --epochs 1)
    run relational "${sweep[@]}" --out "$folder/relational"
    ;;
  *)
    echo "there is no system \`$system\`. Use inr, edit, cnn, rnn or relational." >&2
    exit 2
    ;;
esac
