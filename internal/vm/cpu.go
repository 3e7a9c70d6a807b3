package vm

// tcgCPU is the processor that TCG emulates for x86_64 guests: a plain AMD
// server model, as QEMU ships it. The choice is worth a factor of two and more.
// Best of three boots of Debian's 6.1 cloud kernel into a Go program (QEMU 7.2,
// one virtual processor, host with two EPYC cores). Boot is in seconds from the
// kernel's first line to its init, total from power on to power off; the rest
// is in ms: SHA-256 of 30 MiB by crypto/sha256, zstd decompression of 8 MiB,
// 300,000 null system calls, 5,000 pipe transfers of 4 KiB with 20,000 page
// faults.
//
//	                boot   SHA-256   zstd   system calls   pipe, faults   total
//	EPYC-Rome       1.85       564     27            216            136    3.88
//	EPYC            1.91       573     25            205            163    4.01
//	qemu64          1.79      1028     41            163            157    4.13
//	EPYC-Milan      1.93       628     43            232            540    4.67
//	max             2.20       626     47            174            631    4.78
//	SandyBridge     1.75      1171     15           3701            716    8.81
//	Haswell         1.99       629     43           3407           1138    9.23
//	Skylake-Client  1.91       620     41           4114           1355    9.97
//
// Why: Go's AVX2 code halves the time of SHA-256 even when it is emulated.
// Models of Intel processors are subject to Meltdown, so that the kernel swaps
// page tables at each system call, and TCG has no PCID to soften it. Models
// with "fast string" instructions (erms) make the kernel copy with rep movsb,
// which TCG does byte by byte. "max" also has five-level page tables.
const tcgCPU = "EPYC-Rome"

// tcgCPUARM64 is the processor that TCG emulates for arm64 guests: the emulator's
// own, without what is costly to emulate and useless to guests of ours. Measured as
// above with Debian's 6.1 cloud kernel for arm64, one boot each, on a host busy with
// other work; so the processor time of QEMU, in seconds, is what to compare. Times
// of the guest are in ms, those of 300,000 null system calls among them.
//
//	                                        QEMU   SHA-256   system calls   pipe, faults
//	max,pauth=off,sve=off,sme=off            2.8       396            475           1684
//	max,pauth=off,sve=off,sme=off,lpa2=off   3.4       746           1533           2107
//	max,pauth=off                            3.5       895           1505           5894
//	max,pauth-impdef=on                      6.0       556           1229           2878
//	cortex-a53                              11.5       326           5819           8049
//	cortex-a76                              10.9       330           7169          21587
//	cortex-a57                              12.5       290           5588           5815
//	neoverse-n1                             12.6       452           5368           5893
//	max                                     26.1       376           3533          15898
//
// Why: the kernel finds the named models wanting in mitigations that "max" says it
// needs not, and takes detours at each system call. Pointer authentication with the
// architecture's own cipher costs more than everything else together. SVE and SME
// make the kernel save registers that nobody uses. All have the SHA-256 instructions.
// Larger addresses (LPA2) stay off as kernels before 5.12 do not start with them.
const tcgCPUARM64 = "max,pauth=off,sve=off,sme=off,lpa2=off"
