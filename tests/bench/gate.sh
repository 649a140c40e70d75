#!/usr/bin/env bash
# The gate's data path beside nginx and HAProxy, on loopback: medians with 95 % intervals.
#
#   ROUNDS=5        interleaved rounds; every contender runs once in each, so that a busy moment of the
#                   machine meets all of them
#   RUN_SECONDS=10  seconds of each run
#   CONNECTIONS     "64 1000"
#   BODIES          "1k 64k"
#
# The app and the load generator share one core, each proxy has the other one to itself. The numbers
# are only worth something on a machine that does nothing else.
set -euo pipefail

ROUNDS=${ROUNDS:-5}
RUN_SECONDS=${RUN_SECONDS:-10}
CONNECTIONS=${CONNECTIONS:-64 1000}
BODIES=${BODIES:-1k 64k}
GATE=${GATE:-target/release/portcullis-gate}

# Core of the proxies, and of the app and the load.
PROXY_CORE=0 LOAD_CORE=1

ulimit -n "$(ulimit -Hn)"
folder=$(mktemp -d)
# nginx's workers are of another user when it is started by root.
chmod 755 "$folder"
pids=()
cleanup() {
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  rm -rf "$folder"
}
trap cleanup EXIT

# Starts a program on a core: start CORE NAME COMMAND...
start() {
  local core=$1 name=$2
  shift 2
  taskset -c "$core" "$@" >"$folder/$name.log" 2>&1 &
  pids+=($!)
  echo $! >"$folder/$name.pid"
}

# A port that nobody uses at the moment.
free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

declare -A port
for name in direct nginx haproxy haproxy-tcp gate gate-tcp; do port[$name]=$(free_port); done

mkdir "$folder/www"
head -c 1024 /dev/zero | tr '\0' x >"$folder/www/1k"
head -c 65536 /dev/zero | tr '\0' x >"$folder/www/64k"

# shellcheck disable=SC2016 # the dollar signs are nginx's
common='daemon off; worker_processes 1; error_log /dev/null; events { worker_connections 8192; }'
cat >"$folder/app.conf" <<CONF
$common
pid $folder/app.nginx;
http {
  access_log off; keepalive_timeout 600s; keepalive_requests 1000000000; sendfile on;
  open_file_cache max=10;
  server { listen 127.0.0.1:${port[direct]} backlog=4096; root $folder/www; }
}
CONF
cat >"$folder/nginx.conf" <<CONF
$common
pid $folder/proxy.nginx;
http {
  access_log off; keepalive_timeout 600s; keepalive_requests 1000000000;
  upstream app {
    server 127.0.0.1:${port[direct]};
    keepalive 1024; keepalive_requests 1000000000;
  }
  server {
    listen 127.0.0.1:${port[nginx]} backlog=4096;
    location / {
      proxy_pass http://app; proxy_http_version 1.1;
      proxy_set_header Connection ""; proxy_set_header Host \$host;
    }
  }
}
CONF
cat >"$folder/haproxy.cfg" <<CONF
global
  maxconn 4000
  nbthread 1
defaults
  timeout connect 5s
  timeout client 600s
  timeout server 600s
listen http
  mode http
  http-reuse always
  bind 127.0.0.1:${port[haproxy]}
  server app 127.0.0.1:${port[direct]}
listen tcp
  mode tcp
  bind 127.0.0.1:${port[haproxy-tcp]}
  server app 127.0.0.1:${port[direct]}
CONF

# A gate that is open as soon as the app answers: gate NAME PROTOCOL
gate() {
  local name=$1 protocol=$2
  cat >"$folder/$name.json" <<CONF
{"listen": "127.0.0.1:${port[$name]}", "app": "127.0.0.1:${port[direct]}",
 "admin": "127.0.0.1:$(free_port)", "protocol": "$protocol",
 "checks": [{"name": "app", "tcp": {"port": ${port[direct]}}, "period": "1s"}],
 "ramp": {"when": "never"}}
CONF
  mkdir "$folder/$name.state"
  start $PROXY_CORE "$name" "$GATE" run --config "$folder/$name.json" --state-dir "$folder/$name.state"
}

start $LOAD_CORE app nginx -c "$folder/app.conf"
start $PROXY_CORE nginx nginx -c "$folder/nginx.conf"
start $PROXY_CORE haproxy haproxy -db -f "$folder/haproxy.cfg"
gate gate http
gate gate-tcp tcp

for name in "${!port[@]}"; do
  for _ in $(seq 200); do
    curl -sf -o /dev/null "http://127.0.0.1:${port[$name]}/1k" && continue 2
    sleep 0.05
  done
  echo "$name does not answer:" >&2
  cat "$folder/$name.log" >&2
  exit 1
done

rss() { awk '/VmRSS/ {printf "%.1f MiB", $2 / 1024}' "/proc/$(cat "$folder/$1.pid")/status"; }
echo "RSS before load: gate $(rss gate), gate-tcp $(rss gate-tcp)"

results=$folder/results
for round in $(seq "$ROUNDS"); do
  for body in $BODIES; do
    for connections in $CONNECTIONS; do
      for name in direct nginx haproxy gate haproxy-tcp gate-tcp; do
        rate=$(taskset -c $LOAD_CORE wrk -t1 -c"$connections" -d"${RUN_SECONDS}s" \
          "http://127.0.0.1:${port[$name]}/$body" | awk '/Requests\/sec/ {print $2}')
        echo "$body $connections $name $round $rate" >>"$results"
      done
    done
  done
  echo "round $round of $ROUNDS" >&2
done
echo "RSS after load: gate $(rss gate), gate-tcp $(rss gate-tcp)"

python3 "$(dirname "$0")/summary.py" <"$results"
