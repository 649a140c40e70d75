# Sets DOCKER to what builds and pushes images here, unless it is given: docker, podman or buildah. Sourced.
# shellcheck shell=bash

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
  echo "images need docker (with a running engine), podman or buildah; on Debian: apt-get install buildah" >&2
  exit 1
fi
