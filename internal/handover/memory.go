package handover

import (
	"fmt"

	"github.com/phasebased/phase/manifest"
)

// margin is what the seed and the kernel need beside a set, in bytes.
const margin = 32 << 20

// peak is how often a set is in memory at worst; see Need.
func peak(rung Rung) int64 {
	switch rung {
	case RungRestart:
		return 2
	case RungLoad:
		return 3
	default:
		return 4
	}
}

// MemoryError says that the machine has too little memory for a manifest. It is
// found before anything is downloaded.
type MemoryError struct {
	Set       int64 // bytes of kernel, initramfs and root file system together
	Need      int64 // bytes that a hand-over takes at its peak
	Available int64 // bytes that there are
}

func (e *MemoryError) Error() string {
	return fmt.Sprintf("not enough memory: this system is %s, and handing over to it takes %s of free memory, but only %s are free",
		mib(e.Set), mib(e.Need), mib(e.Available))
}

// Code is the error's number in docs/codes.md.
func (e *MemoryError) Code() string { return "KEXEC-001" }

// Hint says what a person can do.
func (e *MemoryError) Hint() string {
	return fmt.Sprintf("Give the machine at least %s more memory, or boot a smaller system.", mib(e.Need-e.Available))
}

func mib(n int64) string { return fmt.Sprintf("%d MiB", (n+1<<20-1)>>20) }

// Need is the free memory, in bytes, that a hand-over to m on a rung takes at its
// peak. With K, I, R for the sizes of kernel, initramfs and root file system:
//
//	fetched, verified, in sealed memory        K + I + R
//	while the combined initrd is made          K + 2(I+R)      at most: each file is closed when it was copied
//	while kexec_file_load runs                 3(K + I + R)    ours; the kernel's reading buffer; its final pages
//	while kexec_load runs                      2(K + I + R)    ours; the kernel's final pages
//	until the new kernel starts                2(K + I + R)    ours is kept for the next rung, if there is one
//
// kexec_file_load reads both files whole into a buffer of its own before it
// copies them to where the next kernel finds them (kernel/kexec_file.c), and ours
// cannot be given up while it reads. While it copies it also holds pages that it
// cannot use where they are: up to two thirds of a set were measured (Linux 6.1,
// 58 MiB, 3.7 sets in all; with less the kernel panics, "deadlocked on memory").
// So the need is four times the set, and a margin; for kexec_load, which has no
// such buffer, three times. That is a bound, not what was measured: two sets, and
// 38 MiB with Debian's x86_64 kernel, since the kernel's final pages are as many as it
// unpacks itself to. What a kernel really takes is asked of it when it is there
// (kexec.Size), before it is loaded. A restart writes to the medium, out of what was
// fetched: twice. The new kernel's own need (the initrd, and what it unpacks to)
// is smaller, as it starts with all memory free.
//
// With rootfsInCache the root file system stays where it lies, and R is 0.
func Need(m manifest.Manifest, rung Rung, rootfsInCache bool) int64 {
	set, times := setSize(m, rootfsInCache), peak(rung)
	if set > (1<<62)/times {
		return 1 << 62
	}
	return times*set + margin
}

// setSize adds without overflow; the verifier has bounded each size already.
func setSize(m manifest.Manifest, rootfsInCache bool) int64 {
	var sum int64
	for _, name := range []string{"kernel", "initramfs", "rootfs"} {
		if name == "rootfs" && rootfsInCache {
			continue
		}
		if a, ok := m.Artifact(name); ok && a.Size > 0 {
			if sum += a.Size; sum < 0 {
				return 1<<63 - 1
			}
		}
	}
	return sum
}

// CheckMemory returns a *MemoryError if available bytes are not enough for m on a
// rung.
func CheckMemory(m manifest.Manifest, rung Rung, rootfsInCache bool, available int64) error {
	if need := Need(m, rung, rootfsInCache); available < need {
		return &MemoryError{Set: setSize(m, rootfsInCache), Need: need, Available: available}
	}
	return nil
}
