// Package sysinit holds the duties of PID 1 that have nothing to do with
// booting from a network: file systems, devices and their modules, consoles,
// children, the clock, and the end of the machine's run.
//
// PID 1 must not exit, must not block on a broken device, and has nobody to
// report to but the kernel's log and whatever consoles exist. So every function
// returns its errors instead of acting on them, every wait takes a context and
// ends on an event, and every writer to a console is bounded (see FanOut).
// What to do about a failure is decided by the caller, in one place.
//
// The kernel is trusted. Disks, partitions, device names and console input are
// not: what is read from them is bounded and checked.
//
// Only Linux is served. The parsers are plain Go and are tested anywhere.
package sysinit
