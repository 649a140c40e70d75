#!/bin/bash
# The end-to-end tests, on kind clusters of two nodes: one for the stories that are played beside each other, one for those
# that bear no other on their cluster.
#   tests/e2e.sh            makes the images, starts the clusters, runs the tests, stops them (not with KEEP=1)
#   tests/e2e.sh images     makes the images, and no more
#   tests/e2e.sh here       makes the images, runs the tests on the cluster that kubectl points to
# STORY="wrong_port rollback" runs only what has one of these in its name, WITHOUT=jvm nothing that has one of those.
# SHOW=1 shows what the tests print. IMAGES=made takes the images as they are.
# THREADS=1 plays one story after the other on one cluster, as what is measured wants it; three at a time without it, and those
# that are alone on theirs beside them.
set -euo pipefail
cd "$(dirname "$0")/.."
name=portcullis-e2e
by_itself='^e2e::alone::'
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
named() { grep -E "$@" <<<"$tests"; }
[ -z "${WITHOUT:-}" ] || tests=$(named -v "$(tr -s ' ' '|' <<<"$WITHOUT")" || true)
chosen=$(named "$(tr -s ' ' '|' <<<"${STORY:-.}")") || {
  printf 'STORY=%s: no story has that in its name. There are:\n%s\n' "${STORY:-}" "$tests" >&2
  exit 64
}
case ${PART:-} in
  alone) chosen=$(grep "$by_itself" <<<"$chosen") ;;
  together) chosen=$(grep -v "$by_itself" <<<"$chosen") ;;
esac

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
[ -n "${IMAGES:-}" ] || make --no-print-directory image test-images "${extras[@]}"
export IMAGES=made
[ "${1:-}" != images ] || exit 0

if [ "${1:-}" != here ]; then
  on_kind() { # on_kind NAME PART
    export PART=$2
    exec target/cluster kind run -name "$1" -nodes 2 ${KEEP:+-keep} -- tests/e2e.sh here
  }
  if [ "${THREADS:-}" = 1 ] || ! grep -q "$by_itself" <<<"$chosen" || ! grep -qv "$by_itself" <<<"$chosen"; then
    on_kind "$name" all
  fi
  echo "Those that bear no other are played on $name-alone meanwhile: target/e2e-alone.log tells of them"
  (on_kind "$name-alone" alone) >target/e2e-alone.log 2>&1 &
  beside=$!
  # A cluster would stay up.
  trap 'kill "$beside"; wait "$beside"' EXIT
  status=0
  (on_kind "$name" together) || status=1
  echo "Waiting for those on $name-alone"
  wait "$beside" || status=1
  trap - EXIT
  cat target/e2e-alone.log
  exit "$status"
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
# Each that plays does so too; all at once, on a cluster where nothing is, they would get into each other's way.
kubectl apply -k manifests/samples/stories >/dev/null

of() { grep -E "$@" <<<"$chosen" || true; }
mapfile -t alone < <(of "$by_itself")
# The longest story. Those of one call begin in the order of their names, and it would be the last, with nothing beside it.
mapfile -t long < <(of '::rolling_update::')
mapfile -t others < <(of -v "$by_itself|::rolling_update::")

play() { # play THREADS TEST...
  local threads=$1
  shift
  [ $# = 0 ] || integration --test-threads="$threads" ${SHOW:+--nocapture} --exact "$@"
}
status=0
# They mostly wait, but what starts pods needs the cores. With more at a time, on two, requests waited longer for a killed app
# than its gate holds one.
threads=${THREADS:-3}
if [ "$threads" = 1 ]; then
  play 1 "${long[@]}" "${others[@]}" || status=1
else
  play 1 "${long[@]}" &
  play $((threads - 1)) "${others[@]}" || status=1
  wait $! || status=1
fi
play 1 "${alone[@]}" || status=1
up=${PORTCULLIS_CLUSTER:-}
[ -z "${KEEP:-}" ] || [ "$context" != "kind-$up" ] || echo "The cluster stays up: eval \"\$(target/cluster kind up -name $up -nodes 2)\"; target/cluster kind down -name $up"
exit "$status"
