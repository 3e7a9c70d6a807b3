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
