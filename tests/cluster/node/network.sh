#!/bin/sh
# Runs on each node, in its network namespace. Writes the CNI configuration from the node's own range of pod
# addresses, and keeps a route to each other node's range, for as long as nodes come and go.
set -eu

# Pods keep their own address inside the cluster; to anywhere else they go by their node's.
nft -f - <<END
table ip node-network
delete table ip node-network
table ip node-network {
	chain postrouting {
		type nat hook postrouting priority srcnat;
		ip saddr $POD_SUBNET ip daddr != $POD_SUBNET masquerade
	}
}
END

configure() { # configure RANGE: written whole, then put in place, as containerd reads it at once
	cat >/etc/cni/net.d/.node-network <<END
{"cniVersion": "0.3.1", "name": "node-network", "plugins": [
  {"type": "ptp", "ipMasq": false, "ipam": {"type": "host-local", "dataDir": "/run/cni-addresses",
   "routes": [{"dst": "0.0.0.0/0"}], "ranges": [[{"subnet": "$1"}]]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
END
	mv /etc/cni/net.d/.node-network /etc/cni/net.d/10-node-network.conflist
}

nodes() { # every node once, and again whenever one changes, until the connection ends
	kubectl --server="https://$CONTROL_PLANE_ENDPOINT" \
		--certificate-authority=/var/run/secrets/kubernetes.io/serviceaccount/ca.crt \
		--token="$(cat /var/run/secrets/kubernetes.io/serviceaccount/token)" \
		get nodes --watch --output \
		'jsonpath={.metadata.name} {.spec.podCIDR} {.status.addresses[?(@.type=="InternalIP")].address}{"\n"}'
}

while :; do
	nodes | while read -r name range address; do
		# A new node has neither at first; it is told of again when it has both.
		if [ -z "$address" ]; then
			continue
		elif [ "$name" = "$NODE_NAME" ]; then
			configure "$range"
		else
			ip route replace "$range" via "$address"
		fi
	done
	sleep 1
done
