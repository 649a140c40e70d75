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

# With fewer threads a core is idle now and then; with more, what a test starts waits for one so long that others give it up.
threads=${RUST_TEST_THREADS:-$((3 * $(nproc)))}
[ "$threads" -lt 10 ] || threads=10

# What talks to a control plane comes last: it mostly waits for that, or for others, but takes all that it can get of the
# cores, and what comes first asks for answers within a time. Of it, what our own proof decides takes minutes, whatever the
# machine: it begins with the others, and not after them, where its name would put it. The tests' own lines are kept, so that
# they can be shown together at the end.
cargo_test() {
  local slow=api::self_proof status=0 at_it
  : >target/test.log
  told() {
    "$@" 2>&1 | tee -a target/test.log
    [ "${PIPESTATUS[0]}" = 0 ] || status=1
  }
  told cargo test --locked --no-fail-fast --lib --bins -- --test-threads="$threads"
  told cargo test --locked --no-fail-fast --test integration -- --test-threads="$threads" --skip api::
  cargo test --locked --test integration -- --test-threads=$((threads / 2 + 1)) "$slow" >target/slow.log 2>&1 &
  at_it=$!
  told cargo test --locked --test integration -- --test-threads="$threads" api:: --skip "$slow"
  wait "$at_it" || status=1
  printf '\nBeside them, in the background:\n'
  tee -a target/test.log <target/slow.log
  told cargo test --locked --doc
  return $status
}

# Waits for the builds in the background, and tries again if they failed. That of a cluster's nodes is not needed before
# the end-to-end tests, but beside it the others wait so long for a core that some give up.
kubernetes() {
  echo "Waiting for what target/kubernetes.log tells of"
  wait "$background"
  make --no-print-directory kubernetes
}

# What takes ten minutes on a new machine is made in the time that the tests leave, and no other: on one core, mostly.
tests_and_images() {
  chrt --idle 0 tests/e2e.sh images >target/images.log 2>&1 &
  images=$!
  local status=0
  cargo_test || status=1
  ! kill -0 "$images" 2>/dev/null || echo "Waiting for the images, of which target/images.log tells"
  # If it failed, it is seen when it is tried again.
  ! wait "$images" || export IMAGES=made
  return $status
}

# Played in short, it must come to its end and show what it claims: requests that fail, but not with the gate.
demo_gate() {
  # In one call, as the tests were: apart, the gate's crates are built again with fewer features.
  cargo build --locked --bin portcullis-gate --example demo-gate || return 1
  target/debug/examples/demo-gate 6 | tee target/demo-gate.log
  [ "${PIPESTATUS[0]}" = 0 ] || return 1
  awk '$1 == "failed" && $2 > 0 && $3 == 0 { shown = 1 } END { exit !shown }' target/demo-gate.log
}

# The longest steps on a fresh machine, so they start first; niced, as the compiler needs the cores too.
nice -n 10 make --no-print-directory kubernetes kind >target/kubernetes.log 2>&1 &
background=$!
trap 'kill "$background" ${images:-} 2>/dev/null' EXIT

check "lint" make --no-print-directory lint
check "the gate's dependencies" make --no-print-directory deps
check "compile the tests" cargo test --locked --no-run
check "Kubernetes $(sed -n 's/^.*k8s.io\/kubernetes v//p' tests/cluster/go.mod | head -1) from its Go modules" kubernetes
check "the tests of tests/cluster" go test -C tests/cluster . ./node/...
check "tests, and meanwhile the images of the end-to-end tests" tests_and_images
check "the gate's demonstration" demo_gate
check "end to end, on two kind clusters of two nodes" tests/e2e.sh

printf '\n==> Summary\n'
grep -E '^ +(Running|Doc-tests)|^test result:' target/test.log
printf '%s\n' "${summary[@]}"
exit "$status"
