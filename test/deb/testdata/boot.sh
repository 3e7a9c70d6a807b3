#!/bin/sh
# Boots the folder $1 as a container without a network of others, in memory above it,
# with $2 as /packages. It has mounts and control groups of its own: call it by unshare.
set -e
umount -R -l /sys/fs/cgroup 2>/dev/null || true
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p "$2/upper" "$2/work" "$2/root" "$2/packages"
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"
exec systemd-nspawn --quiet --register=no --keep-unit --private-network --console=pipe \
	--directory "$2/root" --bind "$2/packages:/packages" --boot
