#!/bin/sh
# Every model of this folder at its points, in every form that applies: mixc bench --all-forms, on one core.
# usage: measure.sh [MODEL.ir...]
# TYPE=bf16 reads the models' f32 as that.
set -eu
here=$(dirname "$0")
[ $# -gt 0 ] || set -- "$here"/*.ir
typed=$(mktemp -d)
trap 'rm -r "$typed"' EXIT
for model in "$@"; do
  name=$(basename "$model")
  # Operators hold f32 whatever the tokens are.
  sed "s/\bf32\b/${TYPE:-f32}/g; s/mix ${TYPE:-f32}/mix f32/g" "$model" > "$typed/$name"
  for point in $(sed -n 's|^// points: ||p' "$model"); do
    shapes=$(printf ' --shape %s' $(echo "$point" | tr , ' '))
    echo "${name%.ir} $point"
    # shellcheck disable=SC2086
    "${MIXC:-mixc}" bench "$typed/$name" --all-forms --threads 1 --runs "${RUNS:-31}" -q $shapes | sed -n '/^form/,$p'
    echo
  done
done
