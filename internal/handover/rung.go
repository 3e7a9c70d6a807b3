package handover

import (
	"os"
	"slices"

	"github.com/phasebased/phase/internal/failure"
)

// Rung is one way to start a kernel. The ladder tries them in turn.
type Rung string

// The rungs, in the order in which a machine that nothing is known of tries
// them: from the quickest to the one that leaves traces.
const (
	RungLoad    Rung = "kexec_load"      // this program takes the new kernel apart; see package kexec
	RungFile    Rung = "kexec_file_load" // the running kernel does, and may check its signature
	RungRestart Rung = "restart"         // by the firmware, from the medium, which is written to
)

// Auto is the choice that leaves the rungs to the ladder.
const Auto = "auto"

// Reason is why a rung cannot be used, or was not.
type Reason struct {
	Rung Rung
	Err  error
}

// LadderError says of each rung why it does not lead to the new system.
type LadderError struct{ Reasons []Reason }

func (e *LadderError) Error() string {
	text, last := "no way leads from here to the new system: ", ""
	for i, r := range e.Reasons {
		switch why := r.Err.Error(); {
		case i == 0:
			text += string(r.Rung)
			last = why
		case why == last:
			text += ", " + string(r.Rung)
		default:
			text += ": " + last + "; " + string(r.Rung)
			last = why
		}
	}
	return text + ": " + last
}

// Unwrap gives the reasons' errors.
func (e *LadderError) Unwrap() []error {
	errs := make([]error, len(e.Reasons))
	for i, r := range e.Reasons {
		errs[i] = r.Err
	}
	return errs
}

// Code is the error's number in docs/codes.md.
func (e *LadderError) Code() string { return "KEXEC-050" }

// Hint is the first one that a reason has: the rungs come in the order of
// preference.
func (e *LadderError) Hint() string {
	for _, r := range e.Reasons {
		if hint := failure.Hint(r.Err); hint != "" {
			return hint
		}
	}
	return "Boot this medium on another machine, or build it with another kernel for the seed."
}

// Ladder is the ways to start a kernel on this machine, as Plan has ordered them.
type Ladder struct {
	Rungs   []Rung   // to be tried, in this order
	Ruled   []Reason // the others, and why not
	Notes   []string // about this machine, for a person to see
	Restart Restarter
	Machine Machine
	Memory  func() (available int64, err error) // bytes that can still be used; nil: unlimited
	Tell    func(line string)                   // is warned when a rung failed and the next is tried; nil: nobody
	Pass    func(line string)                   // is told instead where the kernel was built without the rung; nil: nobody

	ways map[Rung]way // of tests; nil: the real ones
}

// A Restarter starts a kernel by way of the firmware; package oneshot has one.
// Each method says in its error, for a person, what is in the way.
type Restarter interface {
	// Probe finds out whether this machine's loader and medium allow it. It
	// writes nothing.
	Probe() error
	// Room finds out whether so many bytes fit on the medium. It writes nothing.
	Room(bytes int64) error
	// Prepare writes kernel, initrd and command line to the medium and compares
	// what it has written. Nothing is started by it, now or later.
	Prepare(kernel, initrd *os.File, cmdline string) error
	// Restart makes the firmware start what was prepared, once, and restarts the
	// machine. It returns only on failure.
	Restart() error
	// Cancel takes back what Prepare and Restart have written.
	Cancel() error
}

// way is a rung at work.
type way interface {
	probe() error
	size(kernel *os.File) (int64, error) // bytes that load takes for a kernel beside its file, where that is more than the set tells
	load(kernel, initrd *os.File, cmdline string) error
	unload() error
	jump() error // returns only on failure
}

// What people are told to do.
const (
	hintKernel   = "Build the medium with another kernel for the seed: Debian's allows it."
	hintSecure   = "Turn Secure Boot off in the firmware, or use a system whose kernel is signed by a key that this machine trusts."
	hintNewImage = "Tell the publisher: the kernel in this release cannot be started on this machine."
	hintMemory   = "Give the machine more memory, or boot a smaller system."
)

// Plan decides which rungs of a machine are tried, and in which order. choice is
// Auto, or a rung that is to be the only one. With restart nil nothing can be
// written, so that no restart is part of the ladder, whatever the choice.
func Plan(choice string, m Machine, restart Restarter) Ladder {
	l := Ladder{Machine: m, Restart: restart}
	rungs := []Rung{RungLoad, RungFile, RungRestart}
	if choice != Auto && choice != "" {
		rungs = []Rung{Rung(choice)}
	}
	var last []Rung
	for _, rung := range rungs {
		if rung == RungRestart && restart == nil {
			l.Ruled = append(l.Ruled, Reason{rung, errNoWrite})
			continue
		}
		switch q, found := quirkOf(m, rung); {
		case found && q.Verdict == Never:
			l.Ruled = append(l.Ruled, Reason{rung, q.refusal()})
		case found && len(rungs) > 1:
			last = append(last, rung)
			l.Notes = append(l.Notes, q.Why)
		default:
			l.Rungs = append(l.Rungs, rung)
		}
	}
	l.Rungs = append(l.Rungs, last...)
	l.Notes = slices.Compact(l.Notes)
	return l
}

// ruledOut is the error of a rung that is not even tried.
type ruledOut struct{ text, hint string }

func (e *ruledOut) Error() string { return e.text }

// Code is the error's number in docs/codes.md.
func (e *ruledOut) Code() string { return "KEXEC-051" }

// Hint says what a person can do.
func (e *ruledOut) Hint() string { return e.hint }

// errRefusedAgain keeps a machine from a restart that would lead back here.
var errRefusedAgain = &ruledOut{
	text: "Secure Boot would refuse the new kernel's signature there as well",
	hint: hintSecure,
}

var errNoWrite = &ruledOut{
	text: "it would write to the medium, and nothing may be written on this boot",
	hint: "Boot in Internet or Local mode, which may restart this machine into the new system, or use another machine.",
}
