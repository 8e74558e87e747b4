#!/bin/sh
# Train the paper's rows that need a GPU, several models at once, for some whole minutes; the same
# command goes on where the runs were. Finished runs are kept in results/.
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
    trap 'exit 130' INT TERM
fi
end=$(($(date +%s) + 60 * minutes))
train() { # TABLE MODELS-AT-ONCE CELL...
    table=$1 jobs=$2
    shift 2
    for cell; do set -- "$@" --only "$cell"; shift; done
    left=$((end - $(date +%s)))
    [ "$left" -lt 30 ] || python3 -m tiedlm reproduce "$table" --precision bf16 --threads 2 \
        --jobs "$jobs" --budget "$(awk "BEGIN { print $left / 60 }")" --out "$out" "$@" ||
        failed=$? # what comes after it can still be trained
}
failed=0
train table1 6 ptb-medium ptb-medium-al ptb-medium-re ptb-medium-real 'wikitext-2-small*'
train table2 6 'wikitext-2*'
train table1 6 'wikitext-2-medium*'
train table1 2 'ptb-large*' # more of these do not fit on one GPU at once
exit $failed
