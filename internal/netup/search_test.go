package netup

import (
	"slices"
	"strings"
	"testing"
)

func TestParseSearchList(t *testing.T) {
	label := "\x3f" + strings.Repeat("a", 63)
	for name, c := range map[string]struct {
		raw  string
		want []string
	}{
		"none": {"", nil},
		"one":  {"\x03Lan\x07example\x00", []string{"lan.example"}},
		// The list of RFC 3397, section 2.
		"compressed":           {"\x03eng\x05apple\x03com\x00\x09marketing\xc0\x04", []string{"eng.apple.com", "marketing.apple.com"}},
		"pointer to a pointer": {"\x03com\x00\x05apple\xc0\x00\x03eng\xc0\x05", []string{"com", "apple.com", "eng.apple.com"}},
		"pointer alone":        {"\x03com\x00\xc0\x00\x03org\x00", []string{"com", "org"}},
		"root":                 {"\x00\x03org\x00", []string{"org"}},
		"useless names":        {"\x03a b\x00\x04good\x00\x05a\nb c\x00\x03a.b\x00", []string{"good", "a.b"}},
		"too many":             {"\x01a\x00\x01b\x00\x01c\x00\x01d\x00\x01e\x00\x01f\x00\x01g\x00", []string{"a", "b", "c", "d", "e", "f"}},
		"too long for use":     {label + label + label + "\x3d" + strings.Repeat("a", 61) + "\x00\x01b\x00", []string{"b"}},
	} {
		if got, err := parseSearchList([]byte(c.raw)); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, %v; want %q", name, got, err, c.want)
		}
	}
	deep := "\x01a\x00" // every name is a letter and a pointer to the one before
	for n, last := 0, 0; n <= maxPointers; n++ {
		at := len(deep)
		deep += "\x01a\xc0" + string([]byte{byte(last)})
		last = at
	}
	for name, raw := range map[string]string{
		"no end":                "\x03lan",
		"cut label":             "\x09lan\x00",
		"pointer to itself":     "\xc0\x00",
		"pointer into itself":   "\x01a\xc0\x00",
		"pointer ahead":         "\xc0\x02\x03lan\x00",
		"circle":                "\x03lan\xc0\x06\xc0\x00",
		"half a pointer":        "\x03lan\x00\xc0",
		"pointer beyond":        "\x03lan\x00\xff\xff",
		"reserved kind":         "\x03lan\x00\x40\x00",
		"reserved kind, second": "\x03lan\x00\x80\x00",
		"longer than a name":    label + label + label + label + "\x00",
		"too many pointers":     deep,
	} {
		if got, err := parseSearchList([]byte(raw)); err == nil {
			t.Errorf("%s: accepted as %q", name, got)
		}
	}
}

func FuzzSearchList(f *testing.F) {
	f.Fuzz(func(t *testing.T, raw []byte) {
		list, err := parseSearchList(raw)
		if err != nil && len(list) > 0 || len(list) > maxSearch {
			t.Errorf("%q, %v", list, err)
		}
		for _, d := range list {
			if !isDomain(d) || len(d) > maxDomain {
				t.Errorf("domain %q", d)
			}
		}
	})
}
