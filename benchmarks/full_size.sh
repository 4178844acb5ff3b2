#!/bin/sh
# The table of docs/scaling.md on one 80 GB GPU, in ten minutes: 2B with all weights beside stock TRL and its
# reasoner, 4B and 8B with adapters. Each part has its own time limit and prints as it goes; checkpoints are deleted.
#
#     sh benchmarks/full_size.sh [tiny]     # tiny: the same parts on a CPU, to test this script
#
# PYTHON names the Python, OUT the folder of the figures (full_size.jsonl) and, for a time, of the weights (17 GB).
set -u
python=${PYTHON:-python3}
out=${OUT:-/tmp/p2r-full-size}
here=$(dirname "$0")
only=${1:-}
failed=0
mkdir -p "$out"
: > "$out/full_size.jsonl"

measure() { # SIZE MINUTES OPTIONS…
    size=${only:-$1} minutes=$2
    shift 2
    "$python" "$here/full_size.py" --size "$size" --folder "$out" --minutes "$minutes" --profile "$@" \
        > "$out/part.jsonl" || failed=1
    cat "$out/part.jsonl" >> "$out/full_size.jsonl"
}

measure 2b 4.0 --roles perceiver --steps 3 --compare plain
measure 2b 1.5 --roles reasoner --steps 3 --prompts 2 --crops 3 --micro-batch 2
rm -rf "$out/$size"
measure 4b 2.0 --roles perceiver --lora --steps 3 --prompts 2 --crops 3 --micro-batch 2
rm -rf "$out/$size"
measure 8b 2.3 --roles perceiver --lora --steps 3 --prompts 2 --crops 3 --micro-batch 2
rm -rf "$out/$size" "$out/part.jsonl"
echo "figures: $out/full_size.jsonl" >&2
exit $failed
