package jobpeer

import (
	"errors"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/strictjson"
)

// failure is a refusal as it travels.
type failure struct {
	Reason       job.Reason `json:"reason"`
	Text         string     `json:"text"`
	RetryAfterMS int64      `json:"retry_after_ms"`
}

// Reasons beside those of package job, for its errors that are no refusals.
const (
	reasonUnknown   job.Reason = "unknown_job"
	reasonNotEnded  job.Reason = "not_ended"
	reasonNoReceipt job.Reason = "no_receipt"
	reasonGone      job.Reason = "gone"
	reasonWithheld  job.Reason = "withheld"
	reasonNoReplica job.Reason = "no_replica"
	reasonOtherSet  job.Reason = "other_set"
	reasonSet       job.Reason = "set"
)

var plainErrors = []struct {
	reason job.Reason
	err    error
}{
	{reasonUnknown, job.ErrUnknown}, {reasonNotEnded, job.ErrNotEnded},
	{reasonNoReceipt, job.ErrNoReceipt}, {reasonGone, job.ErrGone},
	{reasonWithheld, job.ErrWithheld}, {reasonNoReplica, job.ErrNoReplica},
	{reasonOtherSet, job.ErrOtherSet}, {reasonSet, job.ErrSet},
}

var refusals = []job.Reason{
	job.Malformed, job.Unsupported, job.TooBig, job.Busy, job.Unavailable, job.Unauthorised, job.Expired, job.Replayed,
	job.Cancelled, job.Internal,
}

const (
	maxText  = 1 << 10
	maxRetry = time.Hour
)

// failureOf is what a stranger is told of err: nothing of this machine, such as
// the names of files.
func failureOf(err error) failure {
	var r *job.Refusal
	if errors.As(err, &r) {
		text := r.Detail
		if r.Err != nil && (r.Reason == job.Malformed || r.Reason == job.Unsupported) {
			text = r.Error()
		}
		return failure{r.Reason, cut(text), r.RetryAfter.Milliseconds()}
	}
	for _, p := range plainErrors {
		if errors.Is(err, p.err) {
			return failure{p.reason, p.err.Error(), 0}
		}
	}
	return failure{job.Internal, "the node could not do it", 0}
}

// parseFailure reads a refusal that a stranger sent.
func parseFailure(raw []byte) (error, error) {
	var f failure
	lim := strictjson.Limits{Bytes: maxDocument, Depth: 2, RejectUnknown: true, RejectNull: true}
	if err := strictjson.Unmarshal(raw, &f, lim); err != nil {
		return nil, err
	}
	if len(f.Text) > maxText || f.RetryAfterMS < 0 || f.RetryAfterMS > maxRetry.Milliseconds() {
		return nil, formError("a refusal with %d bytes of text, to ask again in %d ms", len(f.Text), f.RetryAfterMS)
	}
	for _, p := range plainErrors {
		if p.reason == f.Reason {
			return p.err, nil
		}
	}
	if !slices.Contains(refusals, f.Reason) {
		return nil, formError("reason %.40q", f.Reason)
	}
	return &job.Refusal{Reason: f.Reason, Detail: cut(f.Text), RetryAfter: time.Duration(f.RetryAfterMS) * time.Millisecond}, nil
}

// cut makes a text one bounded line that a terminal can be shown.
func cut(text string) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case r == '\n', r == '\t':
			return ' '
		case !unicode.IsPrint(r):
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	for len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "")
	}
	return text
}
