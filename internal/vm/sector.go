package vm

import (
	"encoding/binary"
	"os"
)

// greeting is what the probe's guest writes on its serial port.
const greeting = "phase-guest-runs"

// sectorCode is a boot sector for a PC with a legacy BIOS. It goes from real
// mode to 64-bit mode with paging, counts to twenty million, writes the
// greeting on the first serial port and resets the machine.
//
// All three parts are there for a reason. Broken KVMs have been met which
// abort at the first instruction, which run real mode and hang in long mode,
// and which get through everything by emulating each instruction in the host's
// kernel: the firmware starts, the loop takes minutes.
//
// It is bytes, in AT&T syntax, so that no assembler is needed. It runs at 0x7c00.
var sectorCode = []byte{
	0xfa,       //                                cli
	0xfc,       //                                cld
	0x31, 0xc0, //                                xor   %ax,%ax
	0x8e, 0xd8, //                                mov   %ax,%ds
	0x8e, 0xc0, //                                mov   %ax,%es
	// Three page tables at 0x1000, cleared, then linked: the first 2 MiB are
	// mapped to themselves by one large page.
	0xbf, 0x00, 0x10, //                          mov   $0x1000,%di
	0xb9, 0x00, 0x18, //                          mov   $0x1800,%cx
	0xf3, 0xab, //                                rep stosw
	0xc6, 0x06, 0x01, 0x10, 0x20, //              movb  $0x20,0x1001
	0xc6, 0x06, 0x00, 0x10, 0x03, //              movb  $0x03,0x1000
	0xc7, 0x06, 0x00, 0x20, 0x03, 0x30, //        movw  $0x3003,0x2000
	0xc6, 0x06, 0x00, 0x30, 0x83, //              movb  $0x83,0x3000
	0x0f, 0x01, 0x16, 0x94, 0x7c, //              lgdt  gdtr
	// CR4.PAE, CR3, EFER.LME, then CR0.PG and CR0.PE together: long mode.
	0x0f, 0x20, 0xe0, //                          mov   %cr4,%eax
	0x0c, 0x20, //                                or    $0x20,%al
	0x0f, 0x22, 0xe0, //                          mov   %eax,%cr4
	0xb8, 0x00, 0x10, //                          mov   $0x1000,%ax
	0x66, 0x0f, 0xb7, 0xc0, //                    movzx %ax,%eax
	0x0f, 0x22, 0xd8, //                          mov   %eax,%cr3
	0x66, 0xb9, 0x80, 0x00, 0x00, 0xc0, //        mov   $0xc0000080,%ecx
	0x0f, 0x32, //                                rdmsr
	0x80, 0xcc, 0x01, //                          or    $0x01,%ah
	0x0f, 0x30, //                                wrmsr
	0x0f, 0x20, 0xc0, //                          mov   %cr0,%eax
	0x66, 0x0d, 0x01, 0x00, 0x00, 0x80, //        or    $0x80000001,%eax
	0x0f, 0x22, 0xc0, //                          mov   %eax,%cr0
	0xea, 0x5a, 0x7c, 0x08, 0x00, //              ljmp  $8,$long
	0xb9, 0x00, 0x2d, 0x31, 0x01, //        long: mov   $20000000,%ecx
	0xff, 0xc9, //                          work: dec   %ecx
	0x75, 0xfc, //                                jnz   work
	0xbe, 0x9a, 0x7c, 0x00, 0x00, //              mov   $text,%esi
	0xac,       //                          next: lodsb
	0x84, 0xc0, //                                test  %al,%al
	0x74, 0x12, //                                jz    reset
	0x88, 0xc4, //                                mov   %al,%ah
	0x66, 0xba, 0xfd, 0x03, //                    mov   $0x3fd,%dx    line status
	0xec,       //                          busy: in    %dx,%al
	0xa8, 0x20, //                                test  $0x20,%al     transmitter empty?
	0x74, 0xfb, //                                jz    busy
	0xb2, 0xf8, //                                mov   $0xf8,%dl     data
	0x88, 0xe0, //                                mov   %ah,%al
	0xee,       //                                out   %al,%dx
	0xeb, 0xe9, //                                jmp   next
	0xb0, 0xfe, //                         reset: mov   $0xfe,%al     keyboard controller:
	0xe6, 0x64, //                                out   %al,$0x64     pulse the reset line
	0xf4,                                           // hlt
	0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, // gdt:  .quad 0
	0x00, 0x00, 0x00, 0x00, 0x00, 0x9a, 0x20, 0x00, //       .quad 64-bit code
	0x0f, 0x00, 0x84, 0x7c, 0x00, 0x00, // gdtr: .word 15; .long gdt
	// text: follows
}

// greetingDisk is a disk image that starts with the boot sector. SeaBIOS reads
// no disk of less than a cylinder, hence its size.
func greetingDisk() []byte {
	disk := make([]byte, 1<<20)
	n := copy(disk, sectorCode)
	copy(disk[n:], greeting+"\r\n\x00")
	disk[510], disk[511] = 0x55, 0xaa
	return disk
}

// greetingCode is what an arm64 machine "virt" is given as its kernel: the same
// without the way to 64-bit mode, where arm64 machines begin. The port is a PL011
// (its registers: ARM DDI 0183, 3.2) where QEMU's "virt" has it.
var greetingCode = []uint32{
	0xd2a12000, //       movz x0, #0x900, lsl #16   the port
	0x52806025, //       movz w5, #0x301
	0xb9003005, //       str  w5, [x0, #0x30]       switch it on
	0x5285a001, //       movz w1, #0x2d00
	0x72a02621, //       movk w1, #0x131, lsl #16   20000000
	0x71000421, // work: subs w1, w1, #1
	0x54ffffe1, //       b.ne work
	0x10000182, //       adr  x2, text
	0x38401443, // next: ldrb w3, [x2], #1
	0x340000a3, //       cbz  w3, off
	0xb9401804, // busy: ldr  w4, [x0, #0x18]       flags
	0x372fffe4, //       tbnz w4, #5, busy          transmitter full?
	0xb9000003, //       str  w3, [x0]
	0x17fffffb, //       b    next
	0x52800100, // off:  movz w0, #8
	0x72b08000, //       movk w0, #0x8400, lsl #16  PSCI: SYSTEM_OFF
	0xd4000002, //       hvc  #0
	0xd503207f, //       wfi
	0x17ffffff, //       b    -4
	// text: follows
}

func greetingKernel() []byte {
	var code []byte
	for _, instruction := range greetingCode {
		code = binary.LittleEndian.AppendUint32(code, instruction)
	}
	return append(code, greeting+"\r\n\x00"...)
}

// greetingGuest writes the probe's guest of an architecture to a file, and says
// how it is started.
func greetingGuest(arch, path string) (Config, error) {
	if arch == ARM64 {
		return Config{Arch: ARM64, Kernel: path}, os.WriteFile(path, greetingKernel(), 0o600)
	}
	return Config{Arch: X8664, BIOS: true, Disks: []Disk{{Path: path, ReadOnly: true}}}, os.WriteFile(path, greetingDisk(), 0o600)
}
