#!/bin/bash
# What `make test` does: every check, each to its end whatever failed before it, then one summary.
set -u
cd "$(dirname "$0")/.." || exit 1
mkdir -p target

declare -a summary
status=0

check() { # check NAME COMMAND...
  local name=$1 begun=$SECONDS
  shift
  printf '\n==> %s\n' "$name"
  "$@"
  case $? in
    0) summary+=("ok      $name ($((SECONDS - begun)) s)") ;;
    69) summary+=("SKIPPED $name (this machine cannot do it: see above)") ;; # sysexits.h: unavailable
    *)
      summary+=("FAILED  $name ($((SECONDS - begun)) s)")
      status=1
      ;;
  esac
}

# Those that talk to a control plane mostly wait for it, or for each other: with a thread a core, both are idle most of
# the time.
threads=$((2 * $(nproc)))
[ "$threads" -lt 16 ] || threads=16

# The tests' own lines, kept so that they can be shown together at the end.
cargo_test() {
  RUST_TEST_THREADS=${RUST_TEST_THREADS:-$threads} cargo test --locked --no-fail-fast 2>&1 | tee target/test.log
  return "${PIPESTATUS[0]}"
}

# Waits for the build in the background, if that is still at it, and tries again if it failed.
kubernetes() {
  make --no-print-directory kubernetes
}

# Played in short, it must come to its end and show what it claims: requests that fail, but not with the gate.
demo_gate() {
  cargo build --locked --bin portcullis-gate || return 1
  cargo run --locked --quiet --example demo-gate -- 6 | tee target/demo-gate.log
  [ "${PIPESTATUS[0]}" = 0 ] || return 1
  awk '$1 == "failed" && $2 > 0 && $3 == 0 { shown = 1 } END { exit !shown }' target/demo-gate.log
}

# The longest steps on a fresh machine, so they start first; niced, as the compiler needs the cores too.
nice -n 10 make --no-print-directory kubernetes kind >target/kubernetes.log 2>&1 &
background=$!
trap 'kill "$background" 2>/dev/null' EXIT

check "lint" make --no-print-directory lint
check "the gate's dependencies" make --no-print-directory deps
check "compile the tests" cargo test --locked --no-run
check "Kubernetes $(sed -n 's/^.*k8s.io\/kubernetes v//p' tests/cluster/go.mod | head -1) from its Go modules" kubernetes
check "the tests of tests/cluster" go test -C tests/cluster . ./node/...
check "tests" cargo_test
check "the gate's demonstration" demo_gate
# Two of the stories: with all of them a warm run would take over twenty minutes. `make e2e` plays the others.
check "end to end, on a kind cluster of two nodes" env STORY="running_but_not_ready crash" tests/e2e.sh

printf '\n==> Summary\n'
grep -E '^ +(Running|Doc-tests)|^test result:' target/test.log
printf '%s\n' "${summary[@]}"
exit "$status"
