package bootcfg

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
)

// What the boot entries of a medium say of the medium itself, where whoever built it
// did: an entry may be signed, and the partition with the policy never is.
const (
	mediumNames = "the unique GUID of the partition phase-seed, in lower case"
	digestNames = digestPrefix + "<64 hexadecimal digits>, the digest of policy.toml"

	digestPrefix = "sha256:"
)

// digestOf is what phase.policy says of a policy.toml.
func digestOf(policyTOML []byte) string {
	sum := sha256.Sum256(policyTOML)
	return digestPrefix + hex.EncodeToString(sum[:])
}

func checkDigest(v string) error {
	digits, ok := strings.CutPrefix(v, digestPrefix)
	if !ok || len(digits) != 2*sha256.Size || !isLowerHex(digits) {
		return errors.New("not a SHA-256 digest")
	}
	return nil
}

func checkGUID(v string) error {
	parts := strings.Split(v, "-")
	lengths := []int{8, 4, 4, 4, 12}
	if len(parts) != len(lengths) {
		return errors.New("not a GUID")
	}
	for i, p := range parts {
		if len(p) != lengths[i] || !isLowerHex(p) {
			return errors.New("not a GUID")
		}
	}
	return nil
}

func isLowerHex(s string) bool { return isHex(s) && strings.ToLower(s) == s }

// checkPolicy holds a policy to the digest that the boot entry names. A medium whose
// policy was not found boots by the defaults, as one does that has none.
func (l line) checkPolicy(policyTOML []byte) error {
	if l.policy == nil || policyTOML == nil || digestOf(policyTOML) == *l.policy {
		return nil
	}
	return &Error{Kind: PolicyChanged, Source: policySource}
}
