// Package kexec puts another Linux kernel into memory with kexec_load(2), the
// older of the kernel's two ways: the program, not the kernel, reads the image,
// chooses the places and writes what the new kernel is started with. It is for
// machines whose kernel lacks kexec_file_load(2) or refuses it, first of all
// Debian's for arm64.
//
//	err := kexec.Load(kernel, initrd, "quiet console=ttyAMA0")
//	…
//	unix.Reboot(unix.LINUX_REBOOT_CMD_KEXEC)
//
// Load is a short walk over pure functions of bytes: read the memory map, look at
// the image's header, place the pieces, write the device tree (arm64) or the boot
// parameters (x86_64) and a few instructions that start the kernel; then comes the
// one system call.
//
// What UEFI offers at run time (its variables) the next kernel has as well: on arm64
// the device tree names it, on x86_64 the boot parameters do, with where the first
// kernel has mapped it.
//
// Trust: the kernel and the initrd were verified by the caller; nothing here
// checks a signature, and the running kernel checks none for kexec_load either,
// which is why it refuses the call when it is locked down. The image is still
// foreign: every offset in it is bounded. The memory map, the device tree and the
// boot parameters come from the running kernel, and are read as strictly, since
// firmware wrote parts of them.
package kexec
