#!/bin/bash
# What `make demo-admission` does on a control plane that `cluster run` has started: serves, registers, and applies the samples
# one by one, as a person would. `cluster run` sets KUBECONFIG, CLUSTER_FOLDER and CLUSTER_FREE_PORTS.
set -euo pipefail
cd "$(dirname "$0")/../.."
: "${CLUSTER_FOLDER:?run this by: make demo-admission}"
read -r port admin_port <<<"$CLUSTER_FREE_PORTS"
samples=manifests/samples
export KUBECACHEDIR="$CLUSTER_FOLDER/cache"

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
  bold=$'\e[1m' dim=$'\e[2m' red=$'\e[31m' green=$'\e[32m' yellow=$'\e[33m' plain=$'\e[0m'
else
  bold='' dim='' red='' green='' yellow='' plain=''
fi
refused=0 admitted=0 warned=0 patched=0

step() { printf '%s%s%s\n' "$dim" "$*" "$plain"; }
story() { sed -n '/^[^#]/q; /^# \(Refused\|Warned\|Patched\)/d; s/^# //p' "$1"; }
fail() {
  printf '%sdemo: %s%s\n' "$red" "$*" "$plain" >&2
  exit 1
}

# Installs what the manifests say, but for the webhooks' address: a Service needs nodes, and there are none.
install() {
  kubectl apply -k manifests/base >/dev/null
  local kind
  for kind in validating:validate mutating:mutate; do
    kubectl patch "${kind%:*}webhookconfiguration" portcullis --type=json --patch \
      '[{"op": "replace", "path": "/webhooks/0/clientConfig", "value": {"url": "https://127.0.0.1:'"$port/${kind#*:}"'"}}]' >/dev/null
  done
  kubectl apply -f $samples/given >/dev/null
}

# Serves with the rights that the manifests give, until the demo ends.
serve() {
  local log=$CLUSTER_FOLDER/portcullis.log
  local kubeconfig=$CLUSTER_FOLDER/portcullis.kubeconfig
  cp "$KUBECONFIG" "$kubeconfig"
  kubectl --kubeconfig "$kubeconfig" config set-credentials portcullis \
    --token "$(kubectl create token portcullis --namespace portcullis-system)" >/dev/null
  kubectl --kubeconfig "$kubeconfig" config set-context --current --user portcullis >/dev/null
  target/debug/portcullis serve --kubeconfig "$kubeconfig" --settings $samples/settings.yaml \
    --tls-san 127.0.0.1 --drain-delay 0s --listen "127.0.0.1:$port" --admin-listen "127.0.0.1:$admin_port" >"$log" 2>&1 &
  server=$!
  trap 'kill "$server" 2>/dev/null || true; wait "$server" || true' EXIT
  # One refusal shows that it serves, has registered, and that the API server has heard of it.
  local attempt
  for attempt in $(seq 150); do
    kill -0 "$server" 2>/dev/null || { cat "$log" >&2; fail "portcullis has ended"; }
    kubectl apply --dry-run=server -f $samples/rejected/image-resizer.yaml >/dev/null 2>&1 || return 0
    sleep 0.2
  done
  cat "$log" >&2
  fail "portcullis serves, but after $attempt attempts the API server has not asked it"
}

# Shows one story: what it is, the command, and what the API server answered.
show() { # show FILE refused|admitted
  local file=$1 expected=$2 outcome=admitted answer
  printf '\n%s%s%s\n' "$bold" "$(story "$file")" "$plain"
  printf '%s$ kubectl apply -f %s%s\n' "$dim" "$file" "$plain"
  answer=$(kubectl apply -f "$file" 2>&1) || outcome=refused
  # kubectl's words before the message of the webhook are the same each time.
  answer=$(sed 's/^Error from server ([A-Za-z]*): .*admission webhook "[^"]*" denied the request: //' <<<"$answer")
  if [ $outcome = refused ]; then
    refused=$((refused + 1))
    printf '%s✗ refused%s\n' "$red" "$plain"
  elif grep -q '^Warning: ' <<<"$answer"; then
    warned=$((warned + 1))
    printf '%s! admitted, with a warning%s\n' "$yellow" "$plain"
  else
    admitted=$((admitted + 1))
    printf '%s✓ admitted%s\n' "$green" "$plain"
  fi
  printf '%s\n' "$answer" | sed 's/^/    /'
  [ $outcome = "$expected" ] || fail "$file was $outcome"
}

# Shows what the pods of a Deployment got that its template does not say.
show_patch() { # show_patch NAMESPACE NAME
  local pod='' attempt
  for attempt in $(seq 100); do
    pod=$(kubectl get pods -n "$1" -l "app=$2" -o jsonpath='{.items[0].spec.containers[0].resources}' 2>/dev/null) && [ -n "$pod" ] && break
    sleep 0.1
  done
  [ -n "$pod" ] || fail "no pod of $1/$2 after $attempt attempts"
  patched=$((patched + 1))
  printf '%s+ patched%s\n' "$green" "$plain"
  printf '    the template says   %s\n' \
    "$(kubectl get deployment -n "$1" "$2" -o jsonpath='{.spec.template.spec.containers[0].resources}')"
  printf '    its pod has         %s\n' "$pod"
}

step "A control plane is up on this machine: etcd, kube-apiserver and kube-controller-manager"
install
step "manifests/base is applied; nobody calls the webhook yet, for it ships without rules"
serve
step "portcullis serves on 127.0.0.1:$port, has made its certificate and written its rules"

for file in "$samples"/rejected/*.yaml; do show "$file" refused; done
for file in "$samples"/accepted/*.yaml; do show "$file" admitted; done
show_patch playground hello

printf '\n%s%d refused, %d warned about, %d patched, %d admitted without a word.%s\n' \
  "$bold" "$refused" "$warned" "$patched" "$((admitted - patched))" "$plain"
step "Stopping everything; nothing of this is left."
