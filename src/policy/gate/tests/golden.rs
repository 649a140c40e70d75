//! Whole pods.

use super::*;

#[test]
fn a_named_port_goes_to_the_gate() {
    let pod = pod("
containers:
- name: app
  image: shop:1
  ports:
  - {name: http, containerPort: 8080, protocol: TCP}
  - {name: metrics, containerPort: 9090, protocol: TCP}
  readinessProbe: {httpGet: {path: /ready, port: http}, periodSeconds: 10, failureThreshold: 3}
  livenessProbe: {httpGet: {path: /live, port: http}}
  startupProbe: {tcpSocket: {port: http}}
  lifecycle: {postStart: {httpGet: {path: /warm, port: http}}}
  resources: {requests: {cpu: 100m, memory: 128Mi}, limits: {memory: 128Mi}}
");
    insta::assert_json_snapshot!(injected(&pod, &facts()));
}

#[test]
fn a_number_goes_to_the_gate_where_the_app_is_told_another() {
    let pod = pod("
containers:
- name: app
  image: shop:1
  env: [{name: PORT, value: \"80\"}]
  ports: [{containerPort: 80, hostPort: 80, hostIP: 10.0.0.1, protocol: TCP}]
  readinessProbe: {httpGet: {path: /, port: 80}}
  resources: {requests: {memory: 64Mi}}
  lifecycle: {preStop: {exec: {command: [sh, -c, sleep 15]}}}
");
    insta::assert_json_snapshot!(injected(&pod, &by_number(facts(), 80)));
}

#[test]
fn beside_a_mesh_and_as_an_ordinary_container() {
    let pod = told(
        "
containers:
- name: app
  image: shop:1
  ports: [{name: grpc, containerPort: 50051, protocol: TCP}]
  readinessProbe: {grpc: {port: 50051}}
  resources: {requests: {memory: 64Mi}}
  env:
  - {name: DATABASE_USER, value: shop}
  - {name: DATABASE_URL, value: 'postgres://$(DATABASE_USER)@db/shop'}
  volumeMounts: [{name: tls, mountPath: /etc/tls, subPath: ca}]
- name: istio-proxy
  image: mesh:1
  ports: [{name: http-envoy-prom, containerPort: 15090, protocol: TCP}]
volumes: [{name: tls, secret: {secretName: tls}}]
",
        "
sidecar: container
readiness: exec
checks:
- name: database
  postgres: {urlFrom: {env: DATABASE_URL}, caFile: /etc/tls/ca.crt}
warmup:
  requests: [{path: /price?currency=$USD}]
",
    );
    insta::assert_json_snapshot!(injected(&pod, &facts()));
}
