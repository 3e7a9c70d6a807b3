package vm

// tcgCPU is the processor that TCG emulates for x86_64 guests.
const tcgCPU = "max"
