package kexec

import (
	"encoding/binary"
	"io/fs"
	"strings"
)

// x86Machine is what has to be known of an x86_64 machine.
type x86Machine struct {
	free    spans       // see freeMemory
	regions []region    // see readMemmap
	params  []byte      // the running kernel's boot parameters, as it got them
	rsdp    uint64      // where ACPI's tables begin; 0: not known, the kernel finds them where a BIOS has them
	efi     bool        // UEFI started the running kernel
	runtime *efiRuntime // nil: UEFI is not there, or not used
	seed    []byte      // random; see chosen
}

const (
	stepParams = "make the boot parameters for the new kernel"
	paramsSize = 4096
	// x86Low is where memory begins that has no history.
	x86Low = 1 << 20
	// x86Physical bounds everything: with four levels of page tables the kernel can
	// map 64 TiB.
	x86Physical = 1 << 46
)

// planX86 places an x86_64 kernel.
func planX86(kernel, initrd []byte, cmdline string, m x86Machine) (plan, error) {
	if err := checkCmdline(cmdline); err != nil {
		return plan{}, err
	}
	img, err := parseX86(kernel)
	if err != nil {
		return plan{}, err
	}
	if err := m.check(img, cmdline); err != nil {
		return plan{}, err
	}
	r := &room{m.free.within(ramOf(m.regions)).within(spans{{x86Low, x86Physical}})}
	code, err := r.takeWithin("kernel", max(img.size, uint64(len(img.code))), img.align, span{img.preferred, x86Physical})
	if err != nil {
		return plan{}, err
	}
	archive, err := placeX86Initrd(r, img, uint64(len(initrd)))
	if err != nil {
		return plan{}, err
	}
	b := x86Params{img: img, machine: m, cmdline: cmdline, initrd: span{archive.start, archive.start + uint64(len(initrd))}}
	paramsAt, err := r.take("boot parameters", b.size(), segmentAlign)
	if err != nil {
		return plan{}, err
	}
	entryAt, err := r.take("entry code", trampolineStack, segmentAlign)
	if err != nil {
		return plan{}, err
	}
	p := plan{entry: entryAt.start}
	p.add("kernel", img.code, code)
	p.add("initrd", initrd, archive)
	p.add("boot parameters", b.build(paramsAt.start), paramsAt)
	p.add("entry code", x86Trampoline(entryAt.start, code.start+entry64, paramsAt.start), entryAt)
	return p, nil
}

func (m x86Machine) check(img bzImage, cmdline string) error {
	switch {
	case img.cmdline != 0 && uint64(len(cmdline)) > img.cmdline:
		return kindCmdline.error(stepParams, nil, "the command line has %d bytes, this kernel takes %d", len(cmdline), img.cmdline)
	case len(m.params) != paramsSize:
		return kindParams.error(stepParams, nil, "the running kernel's have %d bytes", len(m.params))
	case m.efi && m.rsdp == 0 && !strings.Contains(" "+cmdline, " acpi_rsdp="):
		return kindParams.error(stepParams, nil, "it is not known where the firmware's ACPI tables are")
	}
	return nil
}

// placeX86Initrd prefers the place that every kernel reads an initrd from; this
// one reads it anywhere.
func placeX86Initrd(r *room, img bzImage, size uint64) (span, error) {
	if size == 0 {
		return span{}, nil
	}
	at, err := r.takeWithin("initrd", size, segmentAlign, span{0, img.initrdMax + 1})
	if err != nil {
		at, err = r.take("initrd", size, segmentAlign)
	}
	return at, err
}

// trampolineStack is where the entry code's stack begins, downwards.
const trampolineStack = 4096

// x86Trampoline is what the running kernel jumps to: in long mode, all memory
// mapped one to one, interrupts off, but with no descriptors of segments
// (arch/x86/kernel/machine_kexec_64.c). The boot protocol asks for flat ones at
// 0x10 and 0x18, and for the boot parameters in RSI.
func x86Trampoline(at, kernel, params uint64) []byte {
	code := make([]byte, 0xa0)
	copy(code, []byte{
		0x0f, 0x01, 0x15, 0x69, 0x00, 0x00, 0x00, // 00: lgdt [rip+0x69]      the pointer at 70
		0xb8, 0x18, 0x00, 0x00, 0x00, // 07: mov eax, 0x18
		0x8e, 0xd8, // 0c: mov ds, eax
		0x8e, 0xc0, // 0e: mov es, eax
		0x8e, 0xd0, // 10: mov ss, eax
		0x8e, 0xe0, // 12: mov fs, eax
		0x8e, 0xe8, // 14: mov gs, eax
		0x48, 0x8d, 0x25, 0xe3, 0x0f, 0x00, 0x00, // 16: lea rsp, [rip+0xfe3] to 1000
		0x48, 0x8b, 0x35, 0x3c, 0x00, 0x00, 0x00, // 1d: mov rsi, [rip+0x3c]  the word at 60
		0x31, 0xdb, // 24: xor ebx, ebx             the first processor
		0x31, 0xed, // 26: xor ebp, ebp
		0x31, 0xff, // 28: xor edi, edi
		0x6a, 0x10, // 2a: push 0x10
		0xff, 0x35, 0x36, 0x00, 0x00, 0x00, // 2c: push [rip+0x36]      the word at 68
		0x48, 0xcb, // 32: retfq
	})
	le := binary.LittleEndian
	le.PutUint64(code[0x60:], params)
	le.PutUint64(code[0x68:], kernel)
	le.PutUint16(code[0x70:], 0x1f) // the table's last byte
	le.PutUint64(code[0x72:], at+0x80)
	le.PutUint64(code[0x90:], 0x00af9a000000ffff) // 0x10: code, 64 bits
	le.PutUint64(code[0x98:], 0x00cf92000000ffff) // 0x18: data, 4 GiB
	return code
}

// findRSDP looks for the address of ACPI's tables in what the running kernel got
// and in what it shows of UEFI (/sys/firmware), and tells whether there is UEFI.
func findRSDP(params []byte, firmware fs.FS) (rsdp uint64, efi bool) {
	_, err := fs.Stat(firmware, "efi")
	efi = err == nil
	if len(params) == paramsSize {
		rsdp = binary.LittleEndian.Uint64(params[offRSDP:])
	}
	if rsdp != 0 || !efi {
		return rsdp, efi
	}
	tables := systab(firmware)
	if rsdp = tables["ACPI20"]; rsdp == 0 {
		rsdp = tables["ACPI"]
	}
	return rsdp, efi
}
