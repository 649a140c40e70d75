#!/bin/bash
# Lays out the folder that the image of the app on a JVM is built from.  usage: jvm.sh FOLDER
# Status 69 where there is no JDK.
set -euo pipefail
folder=$1
source=tests/e2e/jvm/Shop.java
type javac jlink >/dev/null 2>&1 || { echo "there is no JDK here: javac and jlink are not in PATH" >&2; exit 69; }
made="$(javac -version 2>&1) $(cksum "$0" "$source")"
[ "$(cat "$folder/made" 2>/dev/null)" != "$made" ] || exit 0
rm -rf "$folder"
mkdir -p "$folder/root"
javac -Xlint:all -Werror -d "$folder/root/app" "$source"
jlink --add-modules java.base,jdk.httpserver --strip-debug --no-header-files --no-man-pages --output "$folder/root/jre"
# What the runtime's programs and libraries want of the system, but for what it brings itself.
find "$folder/root/jre" \( -name java -o -name '*.so' \) -exec ldd {} + | grep -o '/[^ :]*' | grep -v /jre/ | sort -u |
  while read -r library; do cp -L --parents "$library" "$folder/root"; done
echo "$made" >"$folder/made"
