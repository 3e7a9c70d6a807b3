package bootcfg

import (
	"errors"
	"testing"
)

// TestPolicyOfTheEntry: a policy other than the one that the boot entry names is
// refused, whatever it says; one that is not there leaves the defaults.
func TestPolicyOfTheEntry(t *testing.T) {
	const made, changed = "channel = \"testing\"\n", "overlay = \"cache\"\n"
	line := "phase.policy=" + digestOf([]byte(made)) + " phase.medium=01234567-89ab-cdef-0123-456789abcdef"
	c, err := Parse(line, []byte(made), nil, arch)
	if err != nil || c.Channel != "testing" || c.PolicyDigest != digestOf([]byte(made)) || c.Medium != "01234567-89ab-cdef-0123-456789abcdef" {
		t.Errorf("its own: %+v, %v", c, err)
	}
	for _, policy := range []string{changed, "", made + "\n", "not TOML"} {
		_, err := Parse(line, []byte(policy), nil, arch)
		var refused *Error
		if !errors.As(err, &refused) || refused.Kind != PolicyChanged || refused.Code() != "BOOT-009" {
			t.Errorf("%q: %v", policy, err)
		}
	}
	if c, err := Parse(line, nil, nil, arch); err != nil || c.Overlay != OverlayMemory || c.Channel != "stable" {
		t.Errorf("none: %+v, %v", c, err)
	}
	if c, err := Parse("", []byte(changed), nil, arch); err != nil || c.Overlay != OverlayCache {
		t.Errorf("an entry that names none: %+v, %v", c, err)
	}
}
