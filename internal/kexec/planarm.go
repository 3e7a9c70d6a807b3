package kexec

import "encoding/binary"

// armMachine is what has to be known of an arm64 machine.
type armMachine struct {
	free spans  // see freeMemory
	tree []byte // /sys/firmware/fdt
	seed []byte // random; see chosen
}

const (
	stepTree = "make the device tree for the new kernel"
	// armTreeAlign is more than the 8 bytes asked for: the tree then never crosses a
	// boundary of the 2 MiB that kernels map it by.
	armTreeAlign = 2 << 20
	// Kernel and initrd lie in one window that begins on a multiple of 1 GiB and is
	// at most 32 GiB large: small kernels have room for so much.
	armWindowAlign = 1 << 30
	armWindow      = 32 << 30
)

// planARM places an arm64 kernel. The order in memory does not matter to it.
func planARM(kernel, initrd []byte, cmdline string, m armMachine) (plan, error) {
	if err := checkCmdline(cmdline); err != nil {
		return plan{}, err
	}
	img, err := parseARM(kernel)
	if err != nil {
		return plan{}, err
	}
	t, err := parseTree(m.tree)
	if err != nil {
		return plan{}, kindTree.error(stepTree, err, "the running kernel's cannot be read")
	}
	r := &room{m.free}
	base, archive, err := placeARM(r, img, uint64(len(initrd)))
	if err != nil {
		return plan{}, err
	}
	t.prepare(chosen{cmdline: cmdline, initrd: span{archive.start, archive.start + uint64(len(initrd))}, seed: m.seed})
	blob, err := t.marshal()
	if err != nil {
		return plan{}, kindTree.error(stepTree, err, "it became too large")
	}
	treeAt, err := r.take("device tree", uint64(len(blob)), armTreeAlign)
	if err != nil {
		return plan{}, err
	}
	start := base.start + img.textOffset
	code := armTrampoline(start, treeAt.start)
	codeAt, err := r.take("entry code", uint64(len(code)), segmentAlign)
	if err != nil {
		return plan{}, err
	}
	p := plan{entry: codeAt.start}
	p.add("kernel", img.code, span{start, base.end})
	p.add("initrd", initrd, archive)
	p.add("device tree", blob, treeAt)
	p.add("entry code", code, codeAt)
	return p, nil
}

// placeARM takes memory for the kernel, from its base on, and for the initrd in
// the same window. Where the lower memory is in pieces, the kernel may take the
// only one that is large enough for the initrd: then the initrd is first.
func placeARM(r *room, img armImage, initrd uint64) (base, archive span, err error) {
	size := max(img.size, uint64(len(img.code))) + img.textOffset
	everything := r.free
	for _, kernelFirst := range []bool{true, false} {
		r.free = everything
		if kernelFirst {
			if base, err = r.take("kernel", size, armBase); err != nil || initrd == 0 {
				return base, span{}, err
			}
			archive, err = r.takeWithin("initrd", initrd, segmentAlign, windowOf(base))
		} else {
			if archive, err = r.take("initrd", initrd, segmentAlign); err != nil {
				return base, archive, err
			}
			base, err = r.takeWithin("kernel", size, armBase, windowOf(archive))
		}
		if err == nil {
			return base, archive, nil
		}
	}
	return base, archive, err
}

// windowOf is the window that begins at s.
func windowOf(s span) span {
	start := alignDown(s.start, armWindowAlign)
	return span{start, start + armWindow}
}

// armTrampoline is what the running kernel jumps to, with the memory management
// off and the registers undefined. It is placed anywhere.
func armTrampoline(kernel, tree uint64) []byte {
	code := []byte{
		0xd1, 0x00, 0x00, 0x58, // 00: ldr x17, 0x18    the kernel's first instruction
		0xe0, 0x00, 0x00, 0x58, // 04: ldr x0, 0x20     the device tree
		0xe1, 0x03, 0x1f, 0xaa, // 08: mov x1, xzr      reserved for later kernels
		0xe2, 0x03, 0x1f, 0xaa, // 0c: mov x2, xzr
		0xe3, 0x03, 0x1f, 0xaa, // 10: mov x3, xzr
		0x20, 0x02, 0x1f, 0xd6, // 14: br x17
	}
	return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(code, kernel), tree)
}
