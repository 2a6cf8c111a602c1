#!/usr/bin/env bash
# Removes one rule of the product after the other, in a copy of the tree, and runs the tests that
# cite the statements behind it: each statement needs one that fails. Not to be used while the tree
# is being edited.
#
#   scripts/mutate.sh [PATTERN]    only rows of tests/data/mutations.tsv that match the PATTERN
#
# A row is: file, text to search (once in the file), text to put there, statements; with \n and \\.
# Which tests cite a statement is read from docs/conformance.md. CARGO may name another cargo, and
# ROWS another file of rows.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cargo=${CARGO:-cargo}
rows=${ROWS:-tests/data/mutations.tsv}
place=$PWD/target/mutants
tree=$place/tree
export CARGO_TARGET_DIR=$place/build RUST_BACKTRACE=0 CARGO_TERM_COLOR=never
rm -rf "$tree"
mkdir -p "$tree"
git ls-files -z --cached --others --exclude-standard | tar -c --null -T - | tar -xm -C "$tree"

# tests_of TARGET STATEMENT: names of the tests there that cite it.
tests_of() {
  local version=5.0
  [[ $2 == *' of 3.1.1' ]] && version=3.1.1
  awk -v id="**${2% of 3.1.1}**" -v version="$version" -v wanted_target="$1" '
    /^## MQTT / { here = $3 == version }
    /^- \*\*/ { wanted = here && $2 == id }
    wanted && /^  - `/ {
      file = $2
      gsub(/[`:]/, "", file)
      target = file ~ /^src/ ? "lib" : file ~ /^tests\/core/ ? "core" : "wire"
      sub(/^[^:]*: /, "")
      count = split($0, names, ", ")
      for (n = 1; n <= count && target == wanted_target; n++) print names[n]
    }' docs/conformance.md
}

# run TARGET NAME…: prints the names of the tests that fail.
run() {
  local target=$1 which log=$place/log status=0
  shift
  if [ "$target" = lib ]; then which=(--lib); else which=(--test "$target"); fi
  (cd "$tree" && timeout 600 $cargo test --locked "${which[@]}" -- "$@") >"$log" 2>&1 || status=$?
  if ! grep -q '^running [1-9]' "$log"; then
    echo "broken: $(grep -m1 -E '^error|^running' "$log")"
  elif [ "$status" -ne 0 ]; then
    sed -nE 's/^test (.*) \.\.\. FAILED.*/\1/p' "$log" | sed 's/.*:://'
    if ! grep -q '^test result' "$log"; then printf '%s\n' "$@"; fi
  fi
}

survived=0 noticed=0 broken=0
while IFS=$'\t' read -r file search replace statements; do
  search=$search replace=$replace perl -0pi -e '
    sub plain { my $text = shift; $text =~ s/\\(.)/$1 eq "n" ? "\n" : $1/ge; $text }
    my ($from, $to) = (plain($ENV{search}), plain($ENV{replace}));
    my $count = () = /\Q$from\E/g;
    die "the text stands $count times in the file\n" if $count != 1;
    s/\Q$from\E/$to/;' "$tree/$file" || {
    echo "STALE     $file: $search"
    broken=$((broken + 1))
    cp "$file" "$tree/$file"
    continue
  }
  mapfile -t ids < <(sed 's/, /\n/g' <<<"$statements")
  declare -A by=()
  for target in lib core wire; do
    names=()
    for id in "${ids[@]}"; do
      [ -n "${by[$id]:-}" ] && continue
      mapfile -t -O "${#names[@]}" names < <(tests_of "$target" "$id")
    done
    [ "${#names[@]}" -eq 0 ] && continue
    failed=$(run "$target" "${names[@]}")
    if [[ $failed == broken:* ]]; then
      echo "BROKEN    $file: $search: $failed"
      broken=$((broken + 1))
      break
    fi
    for id in "${ids[@]}"; do
      [ -n "${by[$id]:-}" ] && continue
      first=$(tests_of "$target" "$id" | grep -Fxm1 -f <(printf '%s\n' "$failed") || true)
      [ -n "$first" ] && by[$id]="$target $first"
    done
  done
  for id in "${ids[@]}"; do
    if [ -n "${by[$id]:-}" ]; then
      echo "noticed   $id by ${by[$id]}"
      noticed=$((noticed + 1))
    else
      echo "SURVIVED  $id: $file: $search"
      survived=$((survived + 1))
    fi
  done
  unset by
  cp "$file" "$tree/$file"
done < <(tail -n +2 "$rows" | grep -E -- "${1:-}")
echo "$noticed noticed, $survived survived, $broken patches broken"
[ $((survived + broken)) -eq 0 ]
