#!/bin/bash
# Turns a Debian root folder into a node for kind, as kind's own images/base/Dockerfile and `kind build
# node-image` do, with Debian's containerd, runc and CNI plugins and with Kubernetes from its Go modules.
#
# usage: build.sh ROOT IMAGES, with KIND (the folder of kind's Go module), KUBERNETES (the folder of its
# programs), VERSION (of Kubernetes) and COREDNS, PAUSE, RUNC (programs) in the environment. Writes into ROOT, and
# the root file system of Kubernetes' own images into the tar archive IMAGES.
set -euo pipefail
root=$1 images=$2
here=$(cd "$(dirname "$0")" && pwd)
inside() { chroot "$root" "$@"; }

# --- what kind adds to Debian ---
files=$KIND/images/base/files
cp -r --no-preserve=mode,ownership "$files"/{etc,kind,usr} "$root/"
chmod -R u=rwX,go=rX "$root/kind"
chmod 755 "$root/usr/local/bin/entrypoint" "$root"/kind/bin/*.sh # a Go module's archive keeps no modes
units=$root/lib/systemd/system
rm -f "$units"/sysinit.target.wants/systemd-tmpfiles-setup.service "$units"/multi-user.target.wants/* \
	"$root"/etc/systemd/system/*.wants/* "$units"/local-fs.target.wants/* "$units"/basic.target.wants/* \
	"$units"/sockets.target.wants/*{udev,initctl}*
# They set values for the whole machine, not for the container.
rm -f "$root"/usr/lib/sysctl.d/*
ln -sf /dev/null "$root/etc/systemd/system/systemd-binfmt.service"
cp "$here/images.service" "$root/etc/systemd/system/"
mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
for unit in containerd images kubelet undo-mount-hacks; do
	ln -sf "/etc/systemd/system/$unit.service" "$root/etc/systemd/system/multi-user.target.wants/"
done
echo ReadKMsg=no >>"$root/etc/systemd/journald.conf"
mkdir -p "$root"/etc/kubernetes/manifests "$root"/etc/cni/net.d "$root"/opt/cni "$root"/kind/manifests

# --- containerd, runc, CNI: Debian keeps them elsewhere ---
for program in containerd ctr containerd-shim-runc-v2; do ln -sf "/usr/bin/$program" "$root/usr/local/bin/"; done
ln -sfn /usr/lib/cni "$root/opt/cni/bin"
cp "$RUNC" "$root/usr/local/sbin/runc" # first in PATH
inside ctr oci spec |
	inside jq '.hooks.createContainer += [{"path": "/kind/bin/mount-product-files.sh"}] | del(.process.rlimits)' \
		>"$root/etc/containerd/cri-base.json"
sed -i -e "s|pause:3.10\"|pause:$PAUSE_VERSION\"|" -e 's/restrict_oom_score_adj = false/restrict_oom_score_adj = true/' \
	"$root/etc/containerd/config.toml"

# --- Kubernetes ---
cp "$KUBERNETES/kube" "$root/usr/bin/kube"
for program in "$KUBERNETES"/*; do
	[ ! -L "$program" ] || ln -sf kube "$root/usr/bin/$(basename "$program")"
done
ln -sf kube "$root/usr/bin/kubectl"
for program in etcd kube-apiserver kube-controller-manager kube-proxy kube-scheduler; do
	ln -sf /usr/bin/kube "$root/usr/local/bin/$program"
done
cp "$COREDNS" "$root/coredns"
cp "$PAUSE" "$root/pause"
install -m 755 "$here/network.sh" "$root/usr/local/bin/node-network"
sed "s/@KUBERNETES@/v$VERSION/" "$here/network.yaml" >"$root/kind/manifests/default-cni.yaml"
cp "$here/storage.yaml" "$root/kind/manifests/default-storage.yaml"
echo "v$VERSION" >"$root/kind/version"

# --- the images of Kubernetes' components: a part of the same files ---
# What kube-proxy and node-network run, and what that needs in turn.
programs=(/usr/bin/{cat,dash,ip,kmod,mv,sleep} /usr/sbin/{conntrack,nft,xtables-nft-multi})
needs() { # needs FILE: the file itself, and its libraries with the links that lead to them
	echo "$1"
	inside ldd "$1" | grep -o '/[^ ]*' | while read -r library; do
		echo "$(inside realpath "$(dirname "$library")")/$(basename "$library")"
		inside realpath "$library"
	done
}
{
	printf '/%s\n' coredns pause bin sbin lib lib64 tmp usr/bin/{kube,kubectl,sh} usr/sbin/modprobe \
		{usr/sbin,etc/alternatives}/ip{,6}tables{,-save,-restore} usr/sbin/ip{,6}tables-nft{,-save,-restore} \
		usr/local/bin/{etcd,kube-apiserver,kube-controller-manager,kube-proxy,kube-scheduler,node-network} \
		etc/{protocols,services,ssl/certs/ca-certificates.crt}
	for file in "${programs[@]}"; do needs "$file"; done
	for file in "$root"/usr/lib/*-linux-gnu/xtables/*.so; do needs "${file#"$root"}"; done
} | sed 's|^/||' | sort -u | tar -C "$root" --no-recursion --numeric-owner -cf "$images" -T -

# --- nobody reads these in a container ---
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/usr/share/{doc,info,locale,man}
rm -f "$root/coredns" "$root/pause" "$root"/usr/local/bin/{etcd,kube-apiserver,kube-controller-manager,kube-proxy,kube-scheduler,node-network}
