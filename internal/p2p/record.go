package p2p

import (
	"crypto/ed25519"
	"encoding/hex"
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
	errKey     = errors.New("key is not /phase/<channel>/<arch>/manifest, nor that and a public key")
	errSize    = errors.New("record is empty or too large")
	errForeign = errors.New("record belongs under another key")
	errStale   = errors.New("record expired long ago")
	errNothing = errors.New("no valid record among the values")
)

// parseKey is the inverse of discover.Query.Key, and of SignedKey, whose signer it
// returns as well.
func parseKey(key string) (q discover.Query, signer ed25519.PublicKey, err error) {
	part := strings.Split(key, "/")
	if len(part) < 5 || len(part) > 6 || part[0] != "" || part[1] != "phase" || part[4] != "manifest" {
		return q, nil, errKey
	}
	q = discover.Query{Channel: part[2], Arch: part[3]}
	if err := q.Validate(); err != nil {
		return q, nil, fmt.Errorf("%w: %w", errKey, err)
	}
	if q.Arch != manifest.ArchX8664 && q.Arch != manifest.ArchARM64 {
		return q, nil, fmt.Errorf("%w: unknown architecture %q", errKey, q.Arch)
	}
	if len(part) == 5 {
		return q, nil, nil
	}
	signer, err = hex.DecodeString(part[5])
	if err != nil || len(signer) != ed25519.PublicKeySize || q.SignedKey(signer) != key {
		return q, nil, errKey
	}
	return q, signer, nil
}

// validator decides what a node stores, serves and hands on. It implements
// kad-dht's record.Validator for the namespace "phase".
type validator struct {
	root func() *manifest.Root // of this moment; nil, or giving nil: signatures are the caller's business
	now  func() time.Time
}

// Validate refuses a value that cannot be the current pointer under key.
//
// Where the key names the one who signs, that decides, with a root and without: whom
// signer is a key of is for who asks to know.
//
// Under the other keys it takes a root to tell records from forgeries.
// With a root the value must be signed by the timestamp key of that root. One
// that is, and was made under a newer root, is kept: it is the publisher's, and
// who asks can follow the roots. One that only claims a newer root is refused
// like any other forgery; otherwise everybody could displace the record by
// claiming the highest root. So a node that missed a rotation of the timestamp
// key keeps the record before it until it has the new root, and who asks hears
// of the new one from others.
func (v validator) Validate(key string, value []byte) error {
	q, signer, err := parseKey(key)
	if err != nil {
		return err
	}
	if len(value) == 0 || len(value) > MaxRecord {
		return errSize
	}
	p, err := inspect(value, signer)
	if err != nil {
		return err
	}
	if p.Channel != q.Channel || p.Arch != q.Arch {
		return fmt.Errorf("%w: %.40q/%.40q", errForeign, p.Channel, p.Arch)
	}
	if signer != nil || v.root == nil || v.root() == nil {
		return v.checkAge(p)
	}
	err = v.byRoot(q, value)
	switch ruleOf(err) {
	case manifest.RuleRootVersion, manifest.RuleExpired, manifest.RuleFuture: // signed by the right key
		return v.checkAge(p)
	}
	return err
}

// inspect parses a pointer, and checks that signer has signed it if there is one.
func inspect(value []byte, signer ed25519.PublicKey) (manifest.Pointer, error) {
	if signer == nil {
		return manifest.InspectPointer(value)
	}
	return manifest.InspectSignedPointer(value, signer)
}

// byRoot judges a value by the root of this moment.
func (v validator) byRoot(q discover.Query, value []byte) error {
	_, err := manifest.Verifier{Root: v.root(), Want: manifest.Want{Channel: q.Channel, Arch: q.Arch}}.Pointer(value, v.now())
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

// inTime reports whether nothing speaks against a value that Validate accepts. One that
// the root's key has signed and that is expired or from the future is kept, as our
// clock may be wrong, and gives way to any other.
func (v validator) inTime(key string, value []byte) bool {
	q, signer, err := parseKey(key)
	if err != nil || signer != nil || v.root == nil || v.root() == nil {
		return true
	}
	rule := ruleOf(v.byRoot(q, value))
	return rule != manifest.RuleExpired && rule != manifest.RuleFuture
}

// Select returns the index of the best value: what is in time before what is not, then
// highest root version, manifest version and expiry, then the smallest bytes, so that
// all nodes agree whatever the order. Values that Validate refuses are passed over: one that was stored
// before its key was revoked does not stand in the way of its successor. Equal
// values yield the lowest index; kad-dht passes a new value as index 0, and would
// otherwise refuse to renew an unchanged record.
func (v validator) Select(key string, values [][]byte) (int, error) {
	best := -1
	var top manifest.Pointer
	var topInTime bool
	for i, value := range values {
		if v.Validate(key, value) != nil {
			continue
		}
		p, err := manifest.InspectPointer(value)
		if err != nil {
			continue
		}
		inTime := v.inTime(key, value)
		if best < 0 || inTime && !topInTime || inTime == topInTime && discover.Compare(p, value, top, values[best]) > 0 {
			best, top, topInTime = i, p, inTime
		}
	}
	if best < 0 {
		return 0, errNothing
	}
	return best, nil
}
