#!/bin/bash
# Builds one target of a Dockerfile with whatever builder is there.
#   images/build.sh DOCKERFILE TARGET NAME CONTEXT [ARCHIVE]
# DOCKER names the builder (docker, podman, buildah); ARCHIVE is a file for `kind load image-archive`.
set -euo pipefail
dockerfile=$1 target=$2 name=$3 context=$4 archive=${5:-}

. "$(dirname "$0")/builder.sh"
# Only docker takes a short name for one of docker.io; a node takes them all that way.
case $name in
  */*) ;;
  *) name=docker.io/library/$name ;;
esac
options=(-f "$dockerfile" --target "$target" -t "$name"
  --build-arg "VERSION=${name##*:}" --build-arg "REVISION=$(git rev-parse HEAD 2>/dev/null || true)")

case $(basename "$DOCKER") in
  buildah)
    options=(bud --pull-never "${options[@]}")
    # Without user namespaces (root in a container) only a chroot can isolate; nothing is run anyway.
    [ "$(id -u)" != 0 ] || options+=(--isolation chroot)
    ;;
  docker) export DOCKER_BUILDKIT=0; options=(build "${options[@]}") ;; # buildx is a package of its own
  *) options=(build "${options[@]}") ;;
esac
iid=$(mktemp)
trap 'rm -f "$iid"' EXIT
log=$("$DOCKER" "${options[@]}" --iidfile "$iid" "$context" 2>&1) || { echo "$log" >&2; exit 1; }
echo "built $name with $DOCKER"

[ -n "$archive" ] || exit 0
mkdir -p "$(dirname "$archive")"
rm -f "$archive"
case $(basename "$DOCKER") in
  # By its id: another folder of this project may have built one of the same name meanwhile.
  buildah) "$DOCKER" push --quiet "$(cat "$iid")" "docker-archive:$archive:$name" ;;
  podman) "$DOCKER" save --quiet --format docker-archive -o "$archive" "$name" ;;
  *) "$DOCKER" save -o "$archive" "$name" ;;
esac
echo "wrote $archive"
