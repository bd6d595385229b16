#!/bin/sh
# Every model of this folder at its points, in every form that applies: mixc bench --all-forms, on one core.
# usage: measure.sh [MODEL.ir...]
set -eu
here=$(dirname "$0")
[ $# -gt 0 ] || set -- "$here"/*.ir
for model in "$@"; do
  for point in $(sed -n 's|^// points: ||p' "$model"); do
    shapes=$(printf ' --shape %s' $(echo "$point" | tr , ' '))
    echo "$(basename "$model" .ir) $point"
    # shellcheck disable=SC2086
    "${MIXC:-mixc}" bench "$model" --all-forms --threads 1 --runs "${RUNS:-31}" -q $shapes | sed -n '/^form/,$p'
    echo
  done
done
