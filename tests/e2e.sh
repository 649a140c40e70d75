#!/bin/bash
# The end-to-end tests, on a kind cluster of two nodes.
#   tests/e2e.sh            makes the images, starts the cluster, runs the tests, stops it (not with KEEP=1)
#   tests/e2e.sh images     makes the images, and no more
#   tests/e2e.sh here       runs the tests on the cluster that kubectl points to
# STORY="wrong_port rollback" runs only what has one of these in its name. SHOW=1 shows what the tests print.
# THREADS=1 plays one story after the other, as what is measured wants it; four at a time without it.
set -euo pipefail
cd "$(dirname "$0")/.."
name=portcullis-e2e
archives=(target/images/{portcullis,portcullis-gate,portcullis-e2e-app,portcullis-e2e-postgres}.tar)

case ${1:-} in
  '' | images)
    # First, for it ends with status 69 where no cluster can be had.
    make --no-print-directory target/cluster
    target/cluster kind build
    cargo test --locked --no-run --test integration
    ;;
  # Never the kubeconfig that is there by default: what it leads to may be somebody's production.
  here) : "${KUBECONFIG:?names the kubeconfig of the cluster to test on}" ;;
  *)
    sed -n '2,/^set/{/^set/d; s/^# \?//; p}' "$0" >&2
    exit 64
    ;;
esac

integration() { cargo test --locked --test integration -- --ignored "$@"; }

# Those of all stories that have a word of STORY in their names.
tests=$(integration --list 2>/dev/null | sed -n 's/^\(e2e::.*\): test$/\1/p')
chosen=$(grep -E "$(tr -s ' ' '|' <<<"${STORY:-.}")" <<<"$tests") || {
  printf 'STORY=%s: no story has that in its name. There are:\n%s\n' "$STORY" "$tests" >&2
  exit 64
}

# What only one story needs.
extras=()
need() { # need TARGET STORY
  ! grep -q "$2" <<<"$chosen" || { extras+=("$1"); archives+=("target/images/portcullis-e2e-$1.tar"); }
}
if ! type javac jlink >/dev/null 2>&1 && grep -q _jvm_ <<<"$chosen"; then
  echo "SKIPPED: the story of a real JVM, for there is no JDK here (javac and jlink in PATH)"
  chosen=$(grep -v _jvm_ <<<"$chosen") || exit 69
fi
need jvm _jvm_
need metrics-server ::autoscaled::
if [ "${1:-}" != here ]; then
  make --no-print-directory image test-images "${extras[@]}"
  [ "${1:-}" != images ] || exit 0
  exec target/cluster kind run -name "$name" -nodes 2 ${KEEP:+-keep} -- tests/e2e.sh here
fi

context=$(kubectl config current-context)
echo "The cluster: $context, $(kubectl get nodes --no-headers | wc -l) node(s)"
if [ "$context" = "kind-${PORTCULLIS_CLUSTER:-}" ]; then
  target/cluster kind load -name "$PORTCULLIS_CLUSTER" "${archives[@]}"
  # What an earlier run has left there (KEEP=1) would go on with the images of its time.
  kubectl --namespace=portcullis-system rollout restart deployment/portcullis 2>/dev/null || true
else
  echo "Its nodes must hold the images of these archives under the same names, as no registry has them:"
  printf '  %s\n' "${archives[@]}"
  echo "(kind load image-archive, minikube image load, k3s ctr images import, ctr -n k8s.io images import)"
fi
mapfile -t together < <(grep -v '^e2e::alone::' <<<"$chosen")
mapfile -t alone < <(grep '^e2e::alone::' <<<"$chosen")

status=0
play() { # play THREADS TEST...
  local threads=$1
  shift
  [ $# = 0 ] || integration --test-threads="$threads" ${SHOW:+--nocapture} --exact "$@" || status=1
}
# They mostly wait, but what starts pods needs the cores.
play "${THREADS:-4}" "${together[@]}"
play 1 "${alone[@]}"
[ -z "${KEEP:-}" ] || [ "$context" != "kind-$name" ] || echo "The cluster stays up: eval \"\$(target/cluster kind up -name $name -nodes 2)\"; target/cluster kind down -name $name"
exit "$status"
