#!/bin/sh
# Writes the disk $3 of a machine: the folder $1, a Debian, with the packages in
# $2/packages installed as whoever builds an image does, without a running system.
# It has mounts of its own: call it by unshare.
set -e
mkdir -p "$2/upper" "$2/work" "$2/root"
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"
root=$2/root
cp -r "$2/packages" "$root/packages"
chroot "$root" dpkg -i packages/phase.deb packages/old.deb
cat >"$root/etc/plasm/config.json" <<'CONFIG'
{"listen_addrs": ["/ip4/127.0.0.1/tcp/4001"], "max_concurrent_jobs": 1}
CONFIG
# A machine that nobody has started has none; what follows is of no use here.
: >"$root/etc/machine-id"
echo plain >"$root/etc/hostname"
rm -rf "$root/var/cache/apt" "$root/var/lib/apt/lists" "$root/usr/share/locale" "$root/usr/share/man" "$root/usr/share/info"
truncate -s 1G "$3"
mke2fs -q -F -t ext4 -d "$root" "$3"
