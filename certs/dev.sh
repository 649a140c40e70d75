#!/bin/sh
# Makes a throw-away authority and a serving pair for local work, in certs/dev (which git ignores).
set -eu
cd "$(dirname "$0")"
umask 077
mkdir -p dev
cd dev

key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1"; }

key ca.key
openssl req -x509 -new -key ca.key -subj "/CN=portcullis development" -days 30 -out ca.crt \
  -addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign"

key tls.key
printf '%s\n' "basicConstraints=critical,CA:FALSE" "keyUsage=critical,digitalSignature" \
  "extendedKeyUsage=serverAuth" "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1" >tls.ext
openssl req -new -key tls.key -subj "/CN=portcullis" |
  openssl x509 -req -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -extfile tls.ext -out tls.crt 2>/dev/null
rm -f tls.ext ca.srl

echo "certs/dev/tls.crt and tls.key, signed by ca.crt, are good for 30 days"
