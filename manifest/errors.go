package manifest

import (
	"fmt"
	"strings"
	"time"
)

// Rule names the check that refused a document.
type Rule string

// The rules, in the order in which they are applied.
const (
	RuleSize        Rule = "size"                      // the file is larger than its kind may be
	RuleMalformed   Rule = "malformed"                 // not the strict form
	RuleKey         Rule = "key"                       // a root lists an unusable key
	RuleSignature   Rule = "signature"                 // unsigned, or signed below the threshold
	RuleSchema      Rule = "schema"                    // a major version this program does not know
	RuleMirrored    Rule = "mirrored"                  // an unsigned copy of a field differs from the signed one
	RuleProduct     Rule = "product"                   // signed for another product
	RuleChannel     Rule = "channel"                   // signed for another channel
	RuleArch        Rule = "arch"                      // signed for another architecture
	RuleRollback    Rule = "rollback"                  // older than what was accepted before
	RuleSameVersion Rule = "same-version-other-digest" // another manifest with the version accepted before
	RulePointer     Rule = "pointer-mismatch"          // not the manifest that the pointer names
	RuleRootVersion Rule = "root-version"              // made under a newer root than the one at hand
	RuleExpired     Rule = "expired"                   // its time, or the root's, is over
	RuleFuture      Rule = "future"                    // made after the clock's time
	RulePolicy      Rule = "policy"                    // signed, but asks for something never allowed
	RuleLog         Rule = "log"                       // not proven to be in the log that the medium asks for
	RuleRootChain   Rule = "root-chain"                // not the successor of the root at hand
)

// ruleInfo holds the code of a rule and what a person can do about it.
var ruleInfo = map[Rule]struct{ code, hint string }{
	RuleSize:        {"VFY-001", "Fetch the file again, from another source if this one keeps sending too much."},
	RuleMalformed:   {"VFY-002", "Fetch the file again; if it stays so, tell its publisher."},
	RuleKey:         {"VFY-003", "Use the root.json or key that came with the boot medium."},
	RuleSignature:   {"VFY-004", "Do not use this file; fetch it from another source and check that the key belongs to its publisher."},
	RuleSchema:      {"VFY-005", "Use a newer boot medium."},
	RuleMirrored:    {"VFY-006", "Do not use this file: its readable part was changed; fetch it again from another source."},
	RuleProduct:     {"VFY-007", "Use a file that was published for Phase Boot."},
	RuleChannel:     {"VFY-008", "Ask for the channel that the file was made for, or fetch the right file."},
	RuleArch:        {"VFY-009", "Fetch the file that was made for this machine's architecture."},
	RuleRollback:    {"VFY-010", "Try another source; if all offer this version, ask the publisher before going on."},
	RuleSameVersion: {"VFY-011", "Do not use this file; ask the publisher which of the two is right."},
	RulePointer:     {"VFY-012", "Fetch the manifest again from another source."},
	RuleExpired:     {"VFY-013", "Check the clock; if it is right, fetch a current file."},
	RuleFuture:      {"VFY-014", "Check the clock; if it is right, tell the publisher."},
	RulePolicy:      {"VFY-015", "Tell the publisher; this file is never accepted."},
	RuleLog:         {"VFY-016", "Fetch the file's log proof again; if there is none, ask the publisher to log this release."},
	RuleRootVersion: {"VFY-017", "Fetch the newer roots that lie beside the manifest, or use a newer boot medium."},
	RuleRootChain:   {"VFY-018", "Fetch the roots again from another source; if all offer this one, use a newer boot medium."},
}

// Error says which rule refused which document, and why.
type Error struct {
	Rule   Rule
	Object string    // "root", "manifest" or "pointer"
	Detail string    // what was found and what was expected
	At     time.Time // RuleExpired: the expiry; RuleFuture: when it was made, by an accepted signature
	Now    time.Time // RuleExpired, RuleFuture: the clock that was used
	Clock  string    // RuleExpired, RuleFuture: where that clock came from, or empty
	Err    error     // cause, or nil
}

// Error implements error. People may search for its fixed parts.
func (e *Error) Error() string {
	var text string
	switch e.Rule {
	case RuleSignature:
		text = title(e.Object) + " signature verification failed"
	case RuleRollback:
		text = title(e.Object) + " version downgrade detected (possible attack)"
	default:
		text = fmt.Sprintf("%s refused (%s)", e.Object, e.Rule)
	}
	if e.Detail != "" {
		text += ": " + e.Detail
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Code returns the number under which docs/codes.md explains e.
func (e *Error) Code() string {
	if info, ok := ruleInfo[e.Rule]; ok {
		return info.code
	}
	return "VFY-000"
}

// Hint says in one sentence what to do next.
func (e *Error) Hint() string {
	if e.Rule == RuleExpired && e.Object == "root" {
		return "Check the clock; if it is right, use a newer boot medium."
	}
	return ruleInfo[e.Rule].hint
}

// refuse makes an Error without a cause.
func refuse(object string, rule Rule, format string, args ...any) *Error {
	return &Error{Rule: rule, Object: object, Detail: fmt.Sprintf(format, args...)}
}

func title(s string) string {
	if s == "" {
		return ""
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
