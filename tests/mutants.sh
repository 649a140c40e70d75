#!/bin/bash
# Takes away one guard after another, each of which keeps an exemption from being a way round the rules (or keeps what
# must pass from being refused, or a drain from losing somebody), and sees that the tests which its patch names fail. Works
# on a copy of the sources in target/mutants. MUTANT=ratchet-worse, or a shell pattern, for some of them.
set -u
cd "$(dirname "$0")/.." || exit 1
folder=$PWD/target/mutants
tree=$folder/tree
log=$folder/log
pattern=${MUTANT:-*}

rm -rf "$tree" "$log"
mkdir -p "$tree" "$log"
git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$tree"
# Nobody debugs these, and without it they are built in half the time.
export CARGO_TARGET_DIR=$folder/target CARGO_PROFILE_DEV_DEBUG=0 CARGO_PROFILE_TEST_DEBUG=0
export CARGO_TERM_COLOR=never

mapfile -t patches < <(compgen -G "tests/mutants/$pattern.patch" | sort)
if [ ${#patches[@]} -eq 0 ]; then
  echo "there is no mutant $pattern: see tests/mutants" >&2
  exit 64
fi

tests_of() { # tests_of PATCH...
  sed -n 's/^Test: //p' "$@" | sort -u
}

try() { # try LOG TEST...: cargo's exit status; 101 also if a test fails
  local to=$1
  shift
  (cd "$tree" && cargo test --locked --test integration -- --exact "$@") >"$to" 2>&1
}

mapfile -t tests < <(tests_of "${patches[@]}")
echo "without a mutation: ${#tests[@]} tests"
if ! try "$log/none" "${tests[@]}"; then
  echo "these must pass first:" >&2
  tail -n 40 "$log/none" >&2
  exit 1
fi

missed=0
for patch in "${patches[@]}"; do
  name=$(basename "$patch" .patch)
  begun=$SECONDS
  if ! patch --directory="$tree" --strip=1 --silent --fuzz=0 <"$patch" >"$log/$name" 2>&1; then
    verdict="DOES NOT APPLY: make it anew"
    missed=1
  else
    mapfile -t tests < <(tests_of "$patch")
    try "$log/$name" "${tests[@]}"
    verdict=caught
    for test in "${tests[@]}"; do
      grep -q "^test $test \.\.\. FAILED" "$log/$name" || {
        verdict="NOT CAUGHT by $test: see $log/$name"
        missed=1
      }
    done
    patch --directory="$tree" --strip=1 --silent --reverse <"$patch"
  fi
  printf '%-30s %4s s  %s\n' "$name" $((SECONDS - begun)) "$verdict"
done
exit $missed
