package p2p

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/phasebased/phase/internal/discover"
	"github.com/phasebased/phase/manifest"
)

// MaxRecord bounds the value of a record, in bytes.
const MaxRecord = discover.MaxPointer

var (
	errKey     = errors.New("key is not /phase/<channel>/<arch>/manifest")
	errSize    = errors.New("record is empty or too large")
	errForeign = errors.New("record belongs under another key")
	errStale   = errors.New("record expired long ago")
	errNothing = errors.New("no valid record among the values")
)

// parseKey is the inverse of discover.Query.Key.
func parseKey(key string) (discover.Query, error) {
	part := strings.Split(key, "/")
	if len(part) != 5 || part[0] != "" || part[1] != "phase" || part[4] != "manifest" {
		return discover.Query{}, errKey
	}
	q := discover.Query{Channel: part[2], Arch: part[3]}
	if err := q.Validate(); err != nil {
		return discover.Query{}, fmt.Errorf("%w: %w", errKey, err)
	}
	if q.Arch != manifest.ArchX8664 && q.Arch != manifest.ArchARM64 {
		return discover.Query{}, fmt.Errorf("%w: unknown architecture %q", errKey, q.Arch)
	}
	return q, nil
}

// validator decides what a node stores, serves and hands on. It implements
// kad-dht's record.Validator for the namespace "phase".
type validator struct {
	root func() *manifest.Root // of this moment; nil, or giving nil: signatures are the caller's business
	now  func() time.Time
}

// Validate refuses a value that cannot be the current pointer under key.
//
// With a root the value must be signed by the timestamp key of that root. One
// that is, and was made under a newer root, is kept: it is the publisher's, and
// who asks can follow the roots. One that only claims a newer root is refused
// like any other forgery; otherwise everybody could displace the record by
// claiming the highest root. So a node that missed a rotation of the timestamp
// key keeps the record before it until it has the new root, and who asks hears
// of the new one from others.
func (v validator) Validate(key string, value []byte) error {
	q, err := parseKey(key)
	if err != nil {
		return err
	}
	if len(value) == 0 || len(value) > MaxRecord {
		return errSize
	}
	p, err := manifest.InspectPointer(value)
	if err != nil {
		return err
	}
	if p.Channel != q.Channel || p.Arch != q.Arch {
		return fmt.Errorf("%w: %.40q/%.40q", errForeign, p.Channel, p.Arch)
	}
	var root *manifest.Root
	if v.root != nil {
		root = v.root()
	}
	if root == nil {
		return v.checkAge(p)
	}
	_, err = manifest.Verifier{Root: root, Want: manifest.Want{Channel: q.Channel, Arch: q.Arch}}.Pointer(value, v.now())
	if ruleOf(err) == manifest.RuleRootVersion {
		return v.checkAge(p)
	}
	return err
}

// ruleOf is the rule that refused a document, or empty.
func ruleOf(err error) manifest.Rule {
	var refused *manifest.Error
	if errors.As(err, &refused) {
		return refused.Rule
	}
	return ""
}

// checkAge is only about not carrying corpses: the asker's verifier, whose clock
// may be better than ours, judges expiry exactly. Records are never refused for
// being from the future, because a machine whose battery is empty thinks that of
// all of them.
func (v validator) checkAge(p manifest.Pointer) error {
	life := p.ExpiresAt.Sub(p.CreatedAt)
	if life <= 0 || v.now().After(p.ExpiresAt.Add(life)) {
		return fmt.Errorf("%w: %s", errStale, p.ExpiresAt.UTC().Format(time.RFC3339))
	}
	return nil
}

// Select returns the index of the best value: highest root version, manifest
// version and expiry, then the smallest bytes, so that all nodes agree whatever
// the order. Values that Validate refuses are passed over: one that was stored
// before its key was revoked does not stand in the way of its successor. Equal
// values yield the lowest index; kad-dht passes a new value as index 0, and would
// otherwise refuse to renew an unchanged record.
func (v validator) Select(key string, values [][]byte) (int, error) {
	best := -1
	var top manifest.Pointer
	for i, value := range values {
		if v.Validate(key, value) != nil {
			continue
		}
		p, err := manifest.InspectPointer(value)
		if err != nil {
			continue
		}
		if best < 0 || discover.Compare(p, value, top, values[best]) > 0 {
			best, top = i, p
		}
	}
	if best < 0 {
		return 0, errNothing
	}
	return best, nil
}
