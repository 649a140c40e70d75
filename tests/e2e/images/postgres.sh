#!/bin/bash
# Lays out the folder that the PostgreSQL image is built from.  usage: postgres.sh FOLDER
# User `app`, password `hush`, database `shop`.
set -euo pipefail
folder=$1
bin=$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -1)
version=$(basename "$(dirname "$bin")")
made="$version $(cksum "$0")"
[ "$(cat "$folder/made" 2>/dev/null)" != "$made" ] || exit 0
[ -x "$bin/postgres" ] || { echo "postgresql is not installed: make packages" >&2; exit 1; }
rm -rf "$folder"
mkdir -p "$folder/root/usr/share/postgresql" "$folder/root/usr/lib/postgresql/$version/lib" "$folder/root/etc" "$folder/root/usr/share/zoneinfo"

# The program finds its share folder by its own place.
copy() { cp -L --parents "$1" "$folder/root"; }
copy "$bin/postgres"
mkdir -p "$folder/root/usr/bin"
ln -s "$bin/postgres" "$folder/root/usr/bin/postgres"
cp -r "/usr/share/postgresql/$version" "$folder/root/usr/share/postgresql/"
ldd "$bin/postgres" | grep -o '/[^ ]*' | while read -r library; do copy "$library"; done
copy /usr/share/zoneinfo/UTC
echo 'postgres:x:999:999::/:/none' >"$folder/root/etc/passwd"

# PostgreSQL refuses to be run by root, and another user may not enter every folder.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
echo hush >"$work/password"
as=()
if [ "$(id -u)" = 0 ]; then
  chown -R postgres "$work"
  as=(setpriv --reuid=postgres --regid=postgres --clear-groups)
fi
(
  cd "$work"
  "${as[@]}" "$bin/initdb" --username=app --auth=scram-sha-256 --pwfile=password --no-sync --locale=C --encoding=UTF8 -D "$work/data"
  echo 'CREATE DATABASE shop' | "${as[@]}" "$bin/postgres" --single -D "$work/data" postgres
) >/dev/null
# In a folder of its own, as a copy keeps the mode of what is in a folder only, and PostgreSQL insists on 0700.
mkdir "$folder/state"
mv "$work/data" "$folder/state/data"
echo 'host all all all scram-sha-256' >>"$folder/state/data/pg_hba.conf"
cat >>"$folder/state/data/postgresql.conf" <<'CONF'
listen_addresses = '*'
unix_socket_directories = ''
fsync = off
timezone = UTC
log_timezone = UTC
max_connections = 200
CONF
echo "$made" >"$folder/made"
