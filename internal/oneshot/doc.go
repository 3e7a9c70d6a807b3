// Package oneshot starts a kernel by way of the firmware: it writes kernel,
// initrd and command line to the EFI system partition of the medium that was
// booted, as an entry for the medium's boot loader, and asks that to start the entry
// at the next boot, once. It is for machines on which no kernel may start another.
//
// # What is written, and in which order
//
//	/phase/oneshot/kernel, initrd           flushed, each under another name first
//	/loader/entries/phase-oneshot.conf      flushed; the medium is unmounted
//	(all of it is read back from the medium and compared)
//	LoaderEntryOneShot                      the firmware's memory: what to start once
//	BootNext                                the entry of the firmware that was used this time
//
// A loss of power before the last step leaves a medium that boots as before; the
// entry is one more line in the menu, and nobody's default. The loader forgets
// LoaderEntryOneShot when it obeys, so the boot after that is an ordinary one. Clear
// removes all of it; whoever was started this way does, and the next seed.
//
// Media for PCs with Secure Boot have GRUB instead, and grub.cfg of package media.
// There the entry is /phase/oneshot/grub.cfg, and the variable next_entry in GRUB's
// environment block, /boot/grub/grubenv, takes the place of LoaderEntryOneShot. GRUB
// empties it before it obeys, and does not obey where it cannot; what it knows it
// tells on the kernel's command line (see Told). An entry that GRUB could not start,
// such as a kernel whose signature shim refuses, is not tried again.
//
// With Secure Boot the boot loader starts kernels only that are signed: by Debian, or
// by a key that the firmware or its owner trusts. A kernel that lacks any signature is
// refused before anything is written.
//
// # What is trusted
//
// The loader was started from the partition that LoaderDevicePartUUID names, or that
// GRUB's kernel command line does; that it lies on the disk of the running medium is checked here, so that no other disk
// of the machine is ever written. Between the comparison and the start the bytes
// lie on the medium, like the seed itself: who can write there in between could
// have replaced the seed. Who can read there finds what the next system is told, which
// may be a passphrase, and perhaps still does after it was deleted. Firmware
// variables, the partition table and the files of the loader are foreign: they are
// read with bounds.
//
// References: https://systemd.io/BOOT_LOADER_INTERFACE/,
// https://uapi-group.org/specifications/specs/boot_loader_specification/, UEFI
// Specification 2.10 sections 3 (boot manager), 5 (GPT) and 8.2 (variables).
package oneshot
