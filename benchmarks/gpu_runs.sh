#!/bin/sh
# Train the paper's rows that need a GPU, six models at once, for some minutes; the same command
# goes on where the runs were. Finished runs are kept in results/.
#
#     benchmarks/gpu_runs.sh MINUTES [OUT]
set -eu
minutes=${1:?usage: benchmarks/gpu_runs.sh MINUTES [OUT]}
out=${2:-runs/paper}
if command -v nvidia-cuda-mps-control > /dev/null; then
    CUDA_MPS_PIPE_DIRECTORY=${TMPDIR:-/tmp}/mps CUDA_MPS_LOG_DIRECTORY=$CUDA_MPS_PIPE_DIRECTORY
    export CUDA_MPS_PIPE_DIRECTORY CUDA_MPS_LOG_DIRECTORY
    mkdir -p "$CUDA_MPS_PIPE_DIRECTORY"
    nvidia-cuda-mps-control -d || echo "MPS does not start: the models take turns"
    trap 'echo quit | nvidia-cuda-mps-control' EXIT
fi
python3 -m tiedlm reproduce table1 --only 'ptb-medium*' --only 'wikitext-2-small*' \
    --only 'wikitext-2-medium*' --only 'ptb-large*' \
    --device cuda --precision bf16 --jobs 6 --threads 2 --budget "$minutes" --out "$out"
