package discover

import (
	"fmt"
	"strings"
)

// NotFound says that a search ended without a usable pointer. Its text lists
// every source that was asked, with what it answered.
type NotFound struct {
	Query   Query
	Answers []Answer
}

func (e *NotFound) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "no pointer found for %s/%s", e.Query.Channel, e.Query.Arch)
	if len(e.Answers) == 0 {
		b.WriteString(": no source was configured")
	}
	for i, a := range e.Answers {
		sep := "; "
		if i == 0 {
			sep = ": "
		}
		fmt.Fprintf(&b, "%s%s %s", sep, a.Source, a.outcome())
	}
	return b.String()
}

// outcome is the answer in a few words.
func (a Answer) outcome() string {
	switch {
	case a.Candidates > 0:
		return fmt.Sprintf("gave %d unusable", a.Candidates)
	case a.Err != nil:
		return a.Err.Error()
	case a.Dropped > 0:
		return fmt.Sprintf("gave %d beyond the limits", a.Dropped)
	}
	return "knows none"
}

// Code is DISC-001 when no source could be asked, DISC-002 when at least one
// answered but none had a usable pointer.
func (e *NotFound) Code() string {
	for _, a := range e.Answers {
		if a.Err == nil || a.Candidates > 0 {
			return "DISC-002"
		}
	}
	return "DISC-001"
}

// Hint says what to do next.
func (e *NotFound) Hint() string {
	if e.Code() == "DISC-001" {
		return "check the network and the bootstrap peers, or name a server with phase.provider=http://host:port"
	}
	return "check channel and architecture, or name a server with phase.provider=http://host:port"
}
