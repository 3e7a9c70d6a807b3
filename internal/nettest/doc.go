// Package nettest lets a test make networks of its own: hosts, cables and
// switches on one machine, with real servers on them.
//
// [Isolated] runs the calling test again in a process with fresh network and
// mount namespaces. That process's own network is empty but for a loopback
// interface that is down; it is the machine under test. [NewHost] adds another
// machine, [Cable] connects two of them, [Host.Start] runs a program on one, and
// [Host.Do] a function. Nothing of it has a name outside, and all of it vanishes
// with the process, however the test ends.
//
// It works as root, and without root where the kernel lets users make namespaces.
// Elsewhere a test is skipped with the reason, or fails where the environment says
// PHASE_REQUIRE_ROOT_TESTS=1; so with programs and PHASE_REQUIRE_TOOLS=1. A test
// that is skipped inside is treated in the same way. [Require], [Tool] and
// [Lacking] say so for tests that need no network of their own.
//
// It is a helper of tests: it fails them instead of returning errors, and trusts
// them.
package nettest
