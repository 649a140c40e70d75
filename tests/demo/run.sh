#!/bin/bash
# Two stories on a real cluster, without Portcullis and with it; the cluster goes when they are told.
#   YES=1   starts without asking
#   KEEP=1  leaves the cluster up, and says what to type
set -euo pipefail
cd "$(dirname "$0")/../.."
name=portcullis-demo
cache=${XDG_CACHE_HOME:-$HOME/.cache}/portcullis
log=target/demo.log

plan() {
  local missing
  missing=$(make --silent --no-print-directory missing)
  echo "This starts a Kubernetes cluster on this machine, shows Portcullis on it, and takes it away again."
  echo "Outside this folder it needs:"
  [ -z "$missing" ] || echo "  Debian packages  installed:" $missing
  if docker version >/dev/null 2>&1; then
    echo "  Docker           yours, for the cluster's containers, until the end"
  else
    echo "  Docker           none answers here: an engine of our own, as root, until the end"
  fi
  if [ -d "$cache" ]; then
    echo "  a cache          $cache is there and stays, $(du -sh "$cache" | cut -f1)"
  else
    echo "  a cache          $cache, about 2 GB, stays for the next time (make clean-cache)"
  fi
  echo "  crates, modules  what Cargo and Go keep in your home when they build"
  [ -e target/images/portcullis.tar ] || echo "The first time takes long: some 20 minutes of building on two cores, or twice that where no images can be pulled."
}

consent() {
  [ -z "${YES:-}" ] || return 0
  if [ ! -t 0 ]; then
    echo "Nobody is here to be asked, so nothing was done. To say yes: make demo YES=1" >&2
    exit 64
  fi
  local answer
  read -r -p "Go on? [y/N] " answer
  case $answer in
    [yY] | [yY]es) ;;
    *)
      echo "Nothing was done."
      exit 1
      ;;
  esac
}

# Runs a command whose words only matter when it fails.
step() { # step TEXT COMMAND...
  local text=$1 begun=$SECONDS
  shift
  printf '%s ... ' "$text"
  if "$@" >"$log" 2>&1; then
    echo "$((SECONDS - begun)) s"
  else
    local status=$?
    echo "failed: $*"
    tail -n 20 "$log" | sed 's/^/  /' >&2
    echo "All of it stands in $log." >&2
    exit "$status"
  fi
}

prepare() {
  mkdir -p target
  step "Packages" make packages
  step "What a cluster is made of" make target/cluster kind
  step "Portcullis, its images and what the stories run" make image test-images
  step "What shows them" cargo build --locked --quiet --example demo
}

play() {
  step "Images into the cluster" target/cluster kind load -name $name target/images/portcullis{,-gate,-e2e-app,-e2e-postgres}.tar
  # A cluster that was kept has it.
  step "A cluster without Portcullis" kubectl delete -k manifests/base --ignore-not-found
  target/debug/examples/demo
  [ -z "${KEEP:-}" ] || say_how_to_play_on
}

say_how_to_play_on() {
  cat <<TEXT

The cluster stays up, with Portcullis and the stories in it. To play on, paste

  eval "\$(target/cluster kind up -name $name)"              # kubectl for this shell
  target/images/portcullis/portcullis doctor                           # is the installation sound?
  kubectl -n rollback rollout restart deployment/web                   # and watch it:
  kubectl -n rollback get pods --watch
  kubectl -n rollback port-forward deployment/web 15981                # a gate's page: http://127.0.0.1:15981
  kubectl apply -f manifests/samples/given -f manifests/samples/rejected

and in the end

  target/cluster kind down -name $name
TEXT
}

case ${1:-} in
  '')
    plan
    consent
    prepare
    # It stops the cluster also when a story fails, or on Ctrl-C.
    target/cluster kind run -name $name ${KEEP:+-keep} -- tests/demo/run.sh play
    echo "Done, after $((SECONDS / 60)) min $((SECONDS % 60)) s."
    ;;
  play) play ;;
  *)
    sed -n '2,/^set/{/^set/d; s/^# \?//; p}' "$0" >&2
    exit 64
    ;;
esac
