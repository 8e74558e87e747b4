#!/bin/sh
# Train the paper's rows that need a GPU, several models at once, for some whole minutes; the same
# command resumes the runs. Finished runs are kept in results/.
#
#     studies/gpu_runs.sh MINUTES [OUT [ROWS...]]
#
# ROWS are what to give `tiedlm reproduce`, all of them side by side, such as 'table1 --only
# ptb-medium --jobs 1' 'table1 --only ptb-small --seeds 3 --first-seed 2 --jobs 2'. Without them the
# rows begin one after the other, in the order in which they are wanted. Last come the recurrent
# highway networks of the paper's best row, side by side; keep them with studies.keep.
set -eu
minutes=${1:?usage: studies/gpu_runs.sh MINUTES [OUT [ROWS...]]}
out=${2:-runs/paper}
[ $# -le 2 ] && set -- || shift 2
if command -v nvidia-cuda-mps-control > /dev/null; then
    CUDA_MPS_PIPE_DIRECTORY=${TMPDIR:-/tmp}/mps CUDA_MPS_LOG_DIRECTORY=$CUDA_MPS_PIPE_DIRECTORY
    export CUDA_MPS_PIPE_DIRECTORY CUDA_MPS_LOG_DIRECTORY
    mkdir -p "$CUDA_MPS_PIPE_DIRECTORY"
    if nvidia-cuda-mps-control -d; then
        trap 'echo quit | nvidia-cuda-mps-control' EXIT
    else
        echo "MPS does not start; unless it runs already, the models take turns"
    fi
fi
set -f # the stars in ROWS are for reproduce
all=
trap 'kill $all 2> /dev/null; wait; exit 130' INT TERM # every run is saved
end=$(($(date +%s) + 60 * minutes))
failed=0
train() { # ROWS; to be put in the background
    left=$((end - $(date +%s)))
    # shellcheck disable=SC2086 # the words of ROWS are arguments
    [ "$left" -lt 30 ] || exec python3 -m tiedlm reproduce $1 --precision bf16 --threads 1 \
        --budget "$(awk "BEGIN { print $left / 60 }")" --out "$out"
}
if [ $# -gt 0 ]; then
    TIEDLM_GPU_SHARED_BY=${TIEDLM_GPU_SHARED_BY:-6} # models at once, if ROWS have no more
    export TIEDLM_GPU_SHARED_BY
    for rows; do
        train "$rows" &
        all="$all $!"
    done
    for one in $all; do wait "$one" || failed=$?; done
    exit $failed
fi
for rows in \
    'table1 --jobs 6 --only ptb-medium --only ptb-medium-al --only ptb-medium-re --only ptb-medium-real --only wikitext-2-small*' \
    'table2 --jobs 6 --only wikitext-2*' \
    'table1 --jobs 6 --only wikitext-2-medium*' \
    'table1 --jobs 2 --only ptb-large*'; do # more large ones do not fit on one GPU at once
    train "$rows" &
    all=$!
    wait "$all" || failed=$? # what comes after it can still be trained
done
train_recipe() { # RECIPE; to be put in the background
    left=$((end - $(date +%s)))
    [ "$left" -lt 30 ] || exec timeout "$left" python3 -m tiedlm train "$1" --precision bf16 \
        --threads 1 --out "$out/$1-seed1"
}
export TIEDLM_GPU_SHARED_BY=2
all=
for recipe in ptb-rhn-9-re ptb-rhn-9-real; do
    train_recipe "$recipe" &
    all="$all $!"
done
for one in $all; do
    status=0
    wait "$one" || status=$?
    [ $status -eq 0 ] || [ $status -eq 124 ] || failed=$status # 124: the time is over
done
exit $failed
