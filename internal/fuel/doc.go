// Package fuel rewrites WebAssembly modules so that they count what they execute
// and stop when a budget is used up. The rewritten module does what the original
// does, and keeps two global variables of its own: what is left of its fuel, and
// of the depth of its calls.
//
// Counting inside the guest costs little and gives the same number on every
// engine and every processor, which a clock, a sampling thread or an engine's own
// interruptions cannot. A guest that waits in a call of the host burns nothing:
// who runs guests needs a deadline as well.
//
// # What is charged, and where
//
// Code is parted into segments that are executed as a whole or not at all: what
// follows a block belongs to what stands before it, unless a branch from inside
// passes it over. Each is paid for at its beginning, that of a loop at each turn;
// at the heads of loops and the entries of functions the guest ends if there was
// not enough. A cheap segment is paid for by the one before it, so that at most a
// fixed amount per segment is paid for without having been executed. Operations on
// ranges pay for their length before they begin. The prices and this parting are
// [CostTable] 1; a receipt names the table.
//
// Whether a call through a table reaches the host shows only when it is made. In a
// module that puts a function of the host where such a call may find it (no compiler
// that we know of makes one), each costs as much as a call of the host.
//
// Calls count down a second budget while they last, by the size of the caller's
// frame, its variables and its operand stack, so that recursion ends at the same depth everywhere, long before an
// engine's own stack does.
//
// # What is trusted
//
// Modules are foreign. Everything is bounded and checked before it is followed;
// an instruction that this package does not know is refused, since its operands
// cannot be passed over. The one thing that a module could forge is a reference
// to what is added: indices of local and global variables, wherever
// they stand, are therefore held against the numbers of the original. All that is added leaves the operand
// stack as it finds it, so that the engine's validation of the rewritten module
// is that of the original.
//
// Source: WebAssembly Core Specification 2.0, section 5 (binary format).
package fuel
