#!/bin/bash
# Holds the archive of an image to what the README says of it, and prints its sizes.
#   images/check.sh ARCHIVE PROGRAM
set -euo pipefail
archive=$1 program=$2

fail() { echo "$archive: $1" >&2; exit 1; }
member() { tar -xOf "$archive" "$1"; }

# [{"Config":"...","RepoTags":[...],"Layers":["...",...]}], of docker, podman and buildah alike
manifest=$(member manifest.json)
config=$(member "$(sed 's/.*"Config":"\([^"]*\)".*/\1/' <<<"$manifest")")
layers=$(sed 's/.*"Layers":\[\([^]]*\)\].*/\1/; s/[",]/ /g' <<<"$manifest")

for text in '"User":"65532:65532"' "\"Entrypoint\":[\"/usr/bin/$program\"]" "\"org.opencontainers.image.title\":\"$program\"" \
  '"org.opencontainers.image.description":"' '"org.opencontainers.image.licenses":"Apache-2.0"' \
  '"org.opencontainers.image.version":"' '"org.opencontainers.image.revision":"'; do
  [[ $config == *"$text"* ]] || fail "the image's configuration lacks $text: $config"
done

files=$(for layer in $layers; do member "$layer" | tar -t; done | grep -v '/$' | sort)
expected=$(printf '%s\n' "usr/bin/$program" "usr/share/sbom/$program.cdx.json")
[ "$files" = "$expected" ] || fail "the image holds other files than the program and its list: $files"

mib() { awk '{ printf "%.1f MiB", $1 / 1048576 }'; }
unpacked=$(for layer in $layers; do member "$layer" | tar -xO; done | wc -c | mib)
compressed=$(for layer in $layers; do member "$layer" | gzip -c; done | wc -c | mib)
echo "$archive: $unpacked, $compressed compressed"
