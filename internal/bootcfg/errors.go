package bootcfg

import (
	"fmt"
	"strconv"
	"strings"
)

// Kind says what was wrong with the configuration.
type Kind int

// The kinds, in the order of their codes BOOT-001 to BOOT-009.
const (
	UnknownKey      Kind = iota + 1 // a phase.* key of the command line that nobody knows
	BadValue                        // a value of the command line that is not allowed
	BadLine                         // the command line as a whole
	PolicySyntax                    // policy.toml is too large or not TOML
	PolicyKey                       // a key of policy.toml that nobody knows
	PolicyValue                     // a value of policy.toml that is not allowed
	BadBootstrapSet                 // bootstrap-nodes.toml, anything
	BadArch                         // the caller's architecture
	PolicyChanged                   // policy.toml is not the one that the boot entry names
)

// Error is a configuration that was refused.
type Error struct {
	Kind    Kind
	Source  string // "kernel command line", "policy.toml", …
	Key     string // the key at fault; may be empty
	Value   string // the value at fault; may be empty
	Allowed string // what would have been accepted; may be empty
	Err     error  // the cause, may be nil
}

// Error names source, key, value and the allowed values.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Source)
	if e.Key != "" {
		b.WriteString(": " + short(e.Key))
	}
	if e.Value != "" || e.Kind == BadValue || e.Kind == PolicyValue {
		b.WriteString(": " + quote(e.Value))
	}
	b.WriteString(": " + e.what())
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	if e.Allowed != "" {
		b.WriteString(" (allowed: " + e.Allowed + ")")
	}
	return b.String()
}

func (e *Error) what() string {
	switch e.Kind {
	case UnknownKey, PolicyKey:
		return "unknown key"
	case BadLine:
		return "cannot be used"
	case PolicySyntax:
		return "cannot be read"
	case BadBootstrapSet:
		return "not a usable list of bootstrap nodes"
	case BadArch:
		return "not supported"
	case PolicyChanged:
		return "not the one that this medium was made with"
	default:
		return "not allowed"
	}
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Code returns "BOOT-0NN", a row of docs/codes.md.
func (e *Error) Code() string { return fmt.Sprintf("BOOT-%03d", int(e.Kind)) }

// Hint says what to do next.
func (e *Error) Hint() string {
	switch e.Kind {
	case UnknownKey, BadValue, BadLine:
		return "Correct the options line in loader/entries on the medium's first partition, or write the medium again."
	case PolicySyntax, PolicyKey, PolicyValue:
		return "Correct policy.toml and build the medium again."
	case BadBootstrapSet:
		return "Correct bootstrap-nodes.toml on the medium, or write the medium again."
	case PolicyChanged:
		return "Build the medium again with the policy that it is to have, or write its image again."
	default:
		return "Use a medium made for this machine."
	}
}

// quote makes foreign text safe for a console line.
func quote(s string) string { return strconv.Quote(short(s)) }

// short cuts foreign text to a length a console line can carry.
func short(s string) string {
	const limit = 80
	if len(s) > limit {
		return s[:limit] + "…"
	}
	return s
}
