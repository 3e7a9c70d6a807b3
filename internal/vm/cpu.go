package vm

// tcgCPU is the processor that TCG emulates for x86_64 guests: a plain AMD
// server model, as QEMU ships it. The choice is worth a factor of two and more.
// Best of several boots of Debian's 6.1 cloud kernel into a Go program
// (QEMU 7.2, 2 vCPUs, two EPYC cores; boot in seconds from the kernel's first
// line to its init, the rest in ms: SHA-256 of 30 MiB by crypto/sha256, 300,000
// null system calls, 5,000 4 KiB pipe transfers with 20,000 page faults):
//
//	                        boot   SHA-256   system calls   pipe and faults
//	EPYC-Rome               1.65       579            183               141
//	EPYC                    1.94       591            187               165
//	EPYC-Milan              1.67       561            213               690
//	Haswell                 1.67       576           3345               850
//	Skylake-Client          1.90       692           3679               846
//	max                     2.03       898            175               651
//	SandyBridge, Nehalem    1.46      1011              –                 –
//	qemu64                  2.29       994              –                 –
//
// Why: Go's AVX2 code halves the time of SHA-256 even when it is emulated.
// Models of Intel processors are subject to Meltdown, so that the kernel swaps
// page tables at each system call, and TCG has no PCID to soften it. Models
// with "fast string" instructions (erms) make the kernel copy with rep movsb,
// which TCG does byte by byte. "max" adds five-level page tables.
const tcgCPU = "EPYC-Rome"
