#!/bin/bash
# What a node pays for the readiness probes of gates, in either form, and without a gate:
#   tests/bench/readiness.sh NODE [FORM...]     FORM: none, http, exec
# KUBECONFIG names a cluster of kind whose only node is the container NODE, with the three images loaded and
# Portcullis installed. PODS (50) are started, left alone for a while, and watched for WATCH (60) seconds. CPU is of
# all that runs in the node, control plane included, from its cgroup; so what counts is the difference to none.
set -euo pipefail
node=$1
shift
[ $# -gt 0 ] || set -- none http exec
pods=${PODS:-50} watch=${WATCH:-60}
namespace=portcullis-bench

deployment() { # FORM
  local label=
  [ "$1" = none ] || label="portcullis.dev/gate: enabled"
  cat <<END
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: $namespace}
spec:
  replicas: $pods
  strategy: {rollingUpdate: {maxUnavailable: 0}}
  selector: {matchLabels: {app: web}}
  template:
    metadata:
      labels: {app: web, $label}
      annotations: {portcullis.dev/gate-config: "readiness: $1"}
    spec:
      terminationGracePeriodSeconds: 20
      containers:
        - name: app
          image: portcullis-e2e-app:0.1.0
          ports: [{name: http, containerPort: 8080}]
          readinessProbe: {httpGet: {path: /ready, port: http}}
          livenessProbe: {httpGet: {path: /live, port: http}}
          resources: {requests: {cpu: 1m, memory: 16Mi}, limits: {cpu: "1", memory: 64Mi}}
END
}

# Prints: microseconds of CPU of the node and of its kubelet, MiB of the node's working set and of its kubelet.
# shellcheck disable=SC2016 # expanded in the node
sample='
  c=/sys/fs/cgroup kubelet=/proc/$(pidof kubelet)
  if [ -f $c/cpu.stat ]; then
    cpu=$(awk "/^usage_usec/ { print \$2 }" $c/cpu.stat)
    used=$(cat $c/memory.current) idle=$(awk "/^inactive_file/ { print \$2 }" $c/memory.stat)
  else
    cpu=$(($(cat $c/cpuacct/cpuacct.usage) / 1000))
    used=$(cat $c/memory/memory.usage_in_bytes) idle=$(awk "/^total_inactive_file/ { print \$2 }" $c/memory/memory.stat)
  fi
  ticks=$(sed "s/.*) //" $kubelet/stat | awk "{ print \$12 + \$13 }")
  echo $cpu $((ticks * 10000)) $(((used - idle) / 1048576)) $(awk "/^VmRSS/ { print int(\$2 / 1024) }" $kubelet/status)
'

echo "| $pods pods on one node | node, millicores | kubelet, millicores | node, memory | kubelet, memory |"
echo "| --- | --- | --- | --- | --- |"
for form in "$@"; do
  kubectl delete namespace "$namespace" --ignore-not-found >/dev/null
  kubectl create namespace "$namespace" >/dev/null
  kubectl label namespace "$namespace" portcullis.dev/enforce=warn >/dev/null
  if [ "$form" = none ]; then
    deployment none | sed '/annotations:/d; s/app: web, }/app: web}/'
  else
    deployment "$form"
  fi | kubectl apply -f - >/dev/null 2>&1
  kubectl -n "$namespace" rollout status deployment/web --timeout=300s >/dev/null
  sleep 20 # what starting them left to do
  ${BEFORE_WATCH:-} docker exec "$node" bash -c "$sample sleep $watch; $sample" | awk -v form="$form" -v watch="$watch" '
    NR == 1 { cpu = $1; kubelet = $2 }
    NR == 2 { printf "| %s | %.0f | %.0f | %d MiB | %d MiB |\n", form, ($1 - cpu) / watch / 1000, ($2 - kubelet) / watch / 1000, $3, $4 }'
done
kubectl delete namespace "$namespace" >/dev/null
