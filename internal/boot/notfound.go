package boot

import (
	"errors"
	"slices"

	"github.com/phasebased/phase/internal/discover"
	"github.com/phasebased/phase/internal/fetch"
	"github.com/phasebased/phase/manifest"
)

// maxRejected bounds the refusals kept for the account of a failed search.
const maxRejected = 16

// NotFoundError says that no source led to a release that verifies. Where
// something was refused, it speaks with the most telling refusal's text, code
// and hint: that something was offered and did not verify matters more than who
// was silent. Else it is the discover.NotFound.
type NotFoundError struct {
	discover.NotFound
	Rejected []error // why candidates were refused, the most telling first; at most 16
}

func (e *NotFoundError) Error() string {
	if telling := e.telling(); telling != nil {
		return telling.Error()
	}
	return e.NotFound.Error()
}

// Unwrap gives the most telling refusal, so that callers can match its type.
func (e *NotFoundError) Unwrap() error { return e.telling() }

func (e *NotFoundError) telling() error {
	if len(e.Rejected) == 0 {
		return nil
	}
	return e.Rejected[0]
}

// Code is the refusal's own code, or that of discover.NotFound.
func (e *NotFoundError) Code() string {
	var coded interface{ Code() string }
	if errors.As(e.telling(), &coded) {
		return coded.Code()
	}
	return e.NotFound.Code()
}

// Hint says what to do next.
func (e *NotFoundError) Hint() string {
	var hinted interface{ Hint() string }
	if errors.As(e.telling(), &hinted) {
		return hinted.Hint()
	}
	return e.NotFound.Hint()
}

// weight is how much a refusal tells. What a genuine signature was refused for
// is the publisher's or the clock's affair, or an attack with old releases;
// anybody can send a wrong signature; and noise says nothing.
func weight(err error) int {
	var defect *PanicError
	if errors.As(err, &defect) {
		return 4
	}
	var refused *manifest.Error
	if errors.As(err, &refused) {
		switch refused.Rule {
		case manifest.RuleSize, manifest.RuleMalformed, manifest.RuleKey:
			return 0
		case manifest.RuleSignature, manifest.RuleRootChain:
			return 2
		case manifest.RuleRootVersion:
			if refused.Err != nil { // it only claims to need another root
				return 2
			}
		}
		return 3 // every other rule comes after the signature
	}
	var fetching *fetch.Error
	if errors.As(err, &fetching) {
		return 1
	}
	return 0
}

// addRejected keeps the most telling refusals, in the order they came.
func addRejected(list []error, err error) []error {
	list = append(list, err)
	slices.SortStableFunc(list, func(a, b error) int { return weight(b) - weight(a) })
	return list[:min(len(list), maxRejected)]
}
