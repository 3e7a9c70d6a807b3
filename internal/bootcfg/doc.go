// Package bootcfg decides how a machine boots: it turns the kernel command
// line and the two files of the medium, policy.toml and
// bootstrap-nodes.toml, into one Config.
//
// It is a pure function of its arguments: no file is opened, no clock and
// no environment is read, so every decision can be tested as a table.
//
// Trust: all three inputs come from whoever prepared or edits the medium.
// They choose where to look and how careful to be; they cannot choose what
// is trusted (the root keys are in the seed). They are still parsed as
// hostile: every length is bounded, a key nobody knows is an error and not
// a silent default, and where a wish is unclear the strictest mode wins. A
// mistyped mode must never give a person less privacy than asked for.
//
// Order of preference: kernel command line, then policy.toml, then the
// defaults of Default.
package bootcfg
