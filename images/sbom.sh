#!/bin/bash
# Prints what a program is made of, as CycloneDX 1.5, which scanners of images find by its name (*.cdx.json).
#   images/sbom.sh PROGRAM FEATURE TARGET
# The crates are cargo's own answer for the feature that the program needs, with the checksums of Cargo.lock; the C library
# is this machine's, linked statically.
set -euo pipefail
program=$1 feature=$2 target=$3
cd "$(dirname "$0")/.."

beside_crates() { # NAME VERSION|LICENSE, as cargo tree prints them
  echo "rust-std v$(rustc --version | cut -d ' ' -f 2)|MIT OR Apache-2.0"
  getconf GNU_LIBC_VERSION | sed 's/ / v/; s/$/|LGPL-2.1-or-later/'
}

{ beside_crates; cargo tree --locked --edges normal,no-proc-macro --no-default-features --features "$feature" --target "$target" \
  --prefix none --no-dedupe --format '{p}|{l}'; } | sort -u | awk -F '|' -v program="$program" '
  function quote(text) { gsub(/["\\]/, "\\\\&", text); return "\"" text "\"" }
  FNR == NR { # Cargo.lock: name, version and checksum of a package stand in this order
    if ($0 ~ /^name = /) { split($0, part, "\""); name = part[2] }
    if ($0 ~ /^version = /) { split($0, part, "\""); version = part[2] }
    if ($0 ~ /^checksum = /) { split($0, part, "\""); checksum[name " " version] = part[2] }
    next
  }
  {
    split($1, crate, " ")
    version = substr(crate[2], 2)
    sum = checksum[crate[1] " " version]
    purl = (sum ? "pkg:cargo/" : "pkg:generic/") crate[1] "@" version
    gsub(/ ?\/ ?/, " OR ", $2) # as crates wrote it before SPDX expressions
    if (crate[1] == "portcullis") {
      own = version
      next
    }
    line = "{\"type\":\"library\",\"bom-ref\":" quote(purl) ",\"name\":" quote(crate[1]) ",\"version\":" quote(version) \
      ",\"purl\":" quote(purl) ",\"licenses\":[{\"expression\":" quote($2) "}]"
    if (sum)
      line = line ",\"hashes\":[{\"alg\":\"SHA-256\",\"content\":" quote(sum) "}]"
    components = components separator line "}"
    separator = ",\n"
  }
  END {
    printf "{\"bomFormat\":\"CycloneDX\",\"specVersion\":\"1.5\",\"version\":1,\n"
    printf "\"metadata\":{\"component\":{\"type\":\"application\",\"name\":%s,\"version\":%s}},\n", quote(program), quote(own)
    printf "\"components\":[\n%s\n]}\n", components
  }' Cargo.lock -
