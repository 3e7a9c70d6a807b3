#!/bin/sh
# Makes and starts a machine of VirtualBox 7:
#   virtualbox.sh phase.vmdk [sata|ide]
# An image of the "cloud" flavour has no driver for SATA: say ide.
set -eu
disk=$1 bus=${2:-sata} name=phase
case $bus in
sata) controller=IntelAhci ;;
ide) controller=PIIX4 ;;
*) echo "sata or ide, not $bus" >&2; exit 2 ;;
esac
VBoxManage createvm --name "$name" --ostype Debian_64 --register
VBoxManage modifyvm "$name" --firmware efi64 --memory 2048 --cpus 2 --rtc-use-utc on \
    --graphicscontroller vmsvga --vram 16 --nic1 nat --nictype1 virtio
VBoxManage storagectl "$name" --name disks --add "$bus" --controller "$controller" --bootable on
VBoxManage storageattach "$name" --storagectl disks --port 0 --device 0 --type hdd --medium "$disk"
VBoxManage startvm "$name"
