#!/bin/bash
# Builds one target of a Dockerfile with whatever builder is there.
#   images/build.sh DOCKERFILE TARGET NAME CONTEXT [ARCHIVE]
# DOCKER names the builder (docker, podman, buildah); ARCHIVE is a file for `kind load image-archive`.
set -euo pipefail
dockerfile=$1 target=$2 name=$3 context=$4 archive=${5:-}

works() { # a docker command without an engine behind it is none
  command -v "$1" >/dev/null || return 1
  [ "$1" != docker ] || docker version >/dev/null 2>&1
}

if [ -z "${DOCKER:-}" ]; then
  for DOCKER in docker podman buildah none; do
    works "$DOCKER" && break
  done
fi
if [ "$DOCKER" = none ]; then
  echo "make image needs docker (with a running engine), podman or buildah; on Debian: apt-get install buildah" >&2
  exit 1
fi
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
log=$("$DOCKER" "${options[@]}" "$context" 2>&1) || { echo "$log" >&2; exit 1; }
echo "built $name with $DOCKER"

[ -n "$archive" ] || exit 0
mkdir -p "$(dirname "$archive")"
rm -f "$archive"
case $(basename "$DOCKER") in
  buildah) "$DOCKER" push --quiet "$name" "docker-archive:$archive:$name" ;;
  podman) "$DOCKER" save --quiet --format docker-archive -o "$archive" "$name" ;;
  *) "$DOCKER" save -o "$archive" "$name" ;;
esac
echo "wrote $archive"
