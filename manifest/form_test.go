package manifest

import (
	"regexp"
	"strings"
	"testing"
)

// Forms decide as their regular expressions do.
func TestForms(t *testing.T) {
	for _, f := range []form{memberForm, rootMemberForm, channelForm, dtbForm, cidForm} {
		pattern := regexp.MustCompile(f.String())
		try := func(s string) {
			if got, want := f.fits(s), pattern.MatchString(s); got != want {
				t.Errorf("%s: %q fits: %t, want %t", f, s, got, want)
			}
		}
		for _, s := range []string{"", "stable", "a-b", "a_b", "a.b", "é", "aé", "a\xff", "\xff", "a\n", "a b", "aK"} {
			try(s)
		}
		for c := range 256 {
			try(string([]byte{byte(c)}))
			try(string([]byte{'a', byte(c)}))
			try(string([]byte{'A', byte(c)}))
		}
		for _, n := range []int{f.max - 1, f.max, f.max + 1} {
			try(strings.Repeat("a", n))
		}
	}
}
