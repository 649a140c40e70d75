#!/bin/bash
# Pushes images with whatever builder built them, and keeps each name with its digest in target/images/pushed.
#   images/push.sh NAME...
# DOCKER names the builder; PUSH_FLAGS are given to it.
set -euo pipefail
. "$(dirname "$0")/builder.sh"
pushed=target/images/pushed
mkdir -p "$(dirname "$pushed")"

for name in "$@"; do
  case $name in
    */*) ;;
    *) echo "make push needs names with a registry, such as IMAGE=registry.example/portcullis:0.1.0, and not $name" >&2; exit 1 ;;
  esac
done
for name in "$@"; do
  case $(basename "$DOCKER") in
    docker)
      docker push --quiet "$name" >/dev/null
      digest=$(docker inspect --format '{{join .RepoDigests "\n"}}' "$name" | sed -n "s|^${name%:*}@||p" | head -1)
      ;;
    *)
      file=$(mktemp)
      # shellcheck disable=SC2086 # flags are words
      "$DOCKER" push --quiet ${PUSH_FLAGS:-} --digestfile "$file" "$name" >/dev/null
      digest=$(cat "$file")
      rm -f "$file"
      ;;
  esac
  # The last push of a name counts.
  { grep -vs "^$name@" "$pushed" || true; echo "$name@$digest"; } >"$pushed.new"
  mv "$pushed.new" "$pushed"
  echo "pushed $name@$digest"
done
