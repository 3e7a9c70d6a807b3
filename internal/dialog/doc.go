// Package dialog asks the person in front of a machine, on all of its consoles
// at once: for a line of text, for a secret, for a yes.
//
// A boot has no shell and no terminal library. What there is are bytes from a
// screen's keyboard and from serial lines, which may as well be noise, and a
// console that others write to meanwhile. So keys that send several bytes (arrows)
// are told from Escape and left out, whatever is typed is bounded and checked
// before it is taken, and nobody is waited for longer than Idle: an abandoned
// question must not keep a machine from booting. A key that does something by
// itself counts only if it stands [Alone], as a person's does.
//
// One console answers: the one that Asker.From names, or on which the first key is
// typed. What is asked and answered can be seen on all.
package dialog
