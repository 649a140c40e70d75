#!/usr/bin/env bash
# The gate's data path beside nginx and HAProxy, on loopback: medians with 95 % intervals, as Markdown.
#
#   ROUNDS=5        interleaved rounds; every contender runs once in each, so that a busy moment of the
#                   machine meets all of them
#   RUN_SECONDS=2   seconds of each run: closed loops by wrk, then open loops (open.rs) at half of the
#                   rate that HAProxy reaches with the first of CONNECTIONS (the fewest) just before
#   CONNECTIONS     "64 1000"
#   BODIES          "1k 64k"
#   HELD=10000      requests that a closed gate holds while its memory is read
#   IDLE_SECONDS=60 for which the CPU time of idle gates is taken
#   PARTS           "memory idle closed open"; RESULTS=FILE gathers what parts run one by one have measured
#
# The app and the load generator share one core, each proxy has the other one to itself. The numbers
# are only worth something on a machine that does nothing else.
set -euo pipefail

ROUNDS=${ROUNDS:-5}
RUN_SECONDS=${RUN_SECONDS:-2}
CONNECTIONS=${CONNECTIONS:-64 1000}
BODIES=${BODIES:-1k 64k}
HELD=${HELD:-10000}
IDLE_SECONDS=${IDLE_SECONDS:-60}
PARTS=${PARTS:-memory idle closed open}
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

declare -A port admin
for name in direct nginx haproxy haproxy-tcp gate gate-tcp gate-held gate-streams; do port[$name]=$(free_port); done

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

# A gate that is open as soon as the port of its check answers: gate NAME PROTOCOL CHECKED
gate() {
  local name=$1 protocol=$2 checked=$3
  admin[$name]=$(free_port)
  cat >"$folder/$name.json" <<CONF
{"listen": "127.0.0.1:${port[$name]}", "app": "127.0.0.1:${port[direct]}",
 "admin": "127.0.0.1:${admin[$name]}", "protocol": "$protocol",
 "checks": [{"name": "app", "tcp": {"port": $checked}, "period": "1s"}],
 "hold": {"maxRequests": $HELD, "maxWait": "10m"}, "notWarm": {"after": "1h", "then": "open"},
 "ramp": {"when": "never"}}
CONF
  mkdir "$folder/$name.state"
  start $PROXY_CORE "$name" "$GATE" run --config "$folder/$name.json" --state-dir "$folder/$name.state"
}

start $LOAD_CORE app nginx -c "$folder/app.conf"
start $PROXY_CORE nginx nginx -c "$folder/nginx.conf"
start $PROXY_CORE haproxy haproxy -db -f "$folder/haproxy.cfg"
cp "$folder/haproxy.pid" "$folder/haproxy-tcp.pid" # one process has both
gate gate http "${port[direct]}"
gate gate-tcp tcp "${port[direct]}"
gate gate-held http "$(free_port)" # where nobody listens
gate gate-streams http "$(free_port)"

for name in direct nginx haproxy haproxy-tcp gate gate-tcp; do
  for _ in $(seq 200); do
    curl -sf -o /dev/null "http://127.0.0.1:${port[$name]}/1k" && continue 2
    sleep 0.05
  done
  echo "$name does not answer:" >&2
  cat "$folder/$name.log" >&2
  exit 1
done

# The two below are of a program and its children: nginx works in one.
family() { echo "$(cat "$folder/$1.pid") $(pgrep -P "$(cat "$folder/$1.pid")" || true)"; }

# Resident memory in KiB.
rss() {
  local pid sum=0
  for pid in $(family "$1"); do sum=$((sum + $(awk '/VmRSS/ {print $2}' "/proc/$pid/status"))); done
  echo "$sum"
}

# CPU time so far in nanoseconds.
cpu() {
  local pid
  for pid in $(family "$1"); do cat "/proc/$pid/task"/*/schedstat; done | awk '{sum += $1} END {printf "%.0f", sum}'
}

# Has open.rs send requests to a contender and keep them open: keep NAME MODE COUNT
keep() {
  taskset -c $LOAD_CORE "$folder/open" "$2" "127.0.0.1:${port[$1]}" /1k "$3" >"$folder/kept" &
  keeper=$!
  pids+=("$keeper")
  until [ -s "$folder/kept" ]; do
    kill -0 "$keeper" || exit 1
    sleep 0.05
  done
}

let_go() {
  kill "$keeper"
  wait "$keeper" 2>/dev/null || true
  rm "$folder/kept"
}

# Memory of a closed gate that holds requests: held NAME MODE
held() {
  local idle count
  idle=$(rss "$1")
  keep "$1" "$2" "$HELD"
  for _ in $(seq 200); do
    count=$(curl -s "http://127.0.0.1:${admin[$1]}/metrics" | awk '$1 == "portcullis_gate_held_requests" {print $2}')
    [ "$count" = "$HELD" ] && break
    sleep 0.05
  done
  echo "$1 $count $idle $(rss "$1")" >>"$results"
  let_go
}

# As many requests as go: requests and requests a second: flood NAME BODY CONNECTIONS
flood() {
  taskset -c $LOAD_CORE wrk -t1 -c"$3" -d"${RUN_SECONDS}s" "http://127.0.0.1:${port[$1]}/$2" |
    awk '/requests in/ {count = $1} /Requests\/sec/ {rate = $2} END {print count, rate}'
}

memory_part() {
  local name idle
  for name in $contenders; do
    idle=$(rss "$name")
    keep "$name" keep 1000
    echo "rss $name $idle $(rss "$name")" >>"$results"
    let_go
  done
  held gate-held keep
  held gate-streams streams
}

idle_part() {
  local name
  declare -A before
  for name in gate gate-tcp; do before[$name]=$(cpu $name); done
  sleep "$IDLE_SECONDS"
  for name in gate gate-tcp; do
    echo "idle-cpu $name $((($(cpu $name) - before[$name]) / IDLE_SECONDS))" >>"$results"
  done
}

closed_part() {
  local round body connections name before count rate cost
  for round in $(seq "$ROUNDS"); do
    for body in $BODIES; do
      for connections in $CONNECTIONS; do
        read -r _ rate < <(flood direct "$body" "$connections")
        echo "closed $body $connections direct $round $rate 0" >>"$results"
        for name in $contenders; do
          before=$(cpu "$name")
          read -r count rate < <(flood "$name" "$body" "$connections")
          cost=$((($(cpu "$name") - before) / count))
          echo "closed $body $connections $name $round $rate $cost" >>"$results"
        done
      done
    done
    echo "closed loop, round $round of $ROUNDS" >&2
  done
  for name in gate gate-tcp; do echo "after $name $(rss $name)" >>"$results"; done
}

open_part() {
  local round body name rate latencies
  for round in $(seq "$ROUNDS"); do
    for body in $BODIES; do
      read -r _ rate < <(flood haproxy "$body" "${CONNECTIONS%% *}")
      rate=$(awk "BEGIN {printf \"%d\", $rate / 2}")
      for name in direct $contenders; do
        latencies=$(taskset -c $LOAD_CORE "$folder/open" rate "127.0.0.1:${port[$name]}" "/$body" \
          "${CONNECTIONS%% *}" "$rate" "$RUN_SECONDS")
        echo "open $body $name $round $rate $latencies" >>"$results"
      done
    done
    echo "open loop, round $round of $ROUNDS" >&2
  done
}

rustc --edition 2024 -O -o "$folder/open" "$(dirname "$0")/open.rs"
results=${RESULTS:-$folder/results}
contenders="nginx haproxy gate haproxy-tcp gate-tcp"
for part in $PARTS; do "${part}_part"; done

echo "$(nproc) cores: $(awk -F ': ' '/model name/ {print $2; exit}' /proc/cpuinfo); Linux $(uname -r);" \
  "$(nginx -v 2>&1 | awk '{print $3}'), $(haproxy -v | awk '{print "HAProxy " $3; exit}'), $("$GATE" --version)"
python3 "$(dirname "$0")/summary.py" <"$results"
