package logproof

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
)

func hashLine(h [32]byte) string { return tlog.Hash(h).String() }

// policyVectors are whole texts. %L and %W1 to %W4 stand for keys.
func policyVectors() map[string]string {
	vectors := map[string]string{
		"ok-no-witness":      "log %L\nquorum none\n",
		"ok-idle-witness":    "log %L\nwitness a %W1\nquorum none\n",
		"ok-one-witness":     "log %L\nwitness a %W1\nquorum a\n",
		"ok-any-order":       "witness a %W1\nquorum a\nlog %L\nwitness b %W2\n",
		"ok-any":             "log %L\nwitness a %W1\nwitness b %W2\ngroup g any a b\nquorum g\n",
		"ok-all":             "log %L\nwitness a %W1\nwitness b %W2\ngroup g all a b\nquorum g\n",
		"ok-nested":          "log %L\nwitness a %W1\nwitness b %W2\nwitness c %W3\ngroup g 1 a b\ngroup h all g c\nquorum h\n",
		"ok-group-of-one":    "log %L\nwitness a %W1\ngroup g any a\nquorum g\n",
		"ok-quorum-inside":   "log %L\nwitness a %W1\ngroup g any a\nquorum a\n",
		"ok-urls":            "log %L https://log.example/\nwitness a %W1 https://w.example/\nquorum a\n",
		"ok-spaces-and-tabs": "\t log \t%L  \n\n \t\n # comment\n#\nquorum\tnone \n",
		"ok-keywords-as-names": "log %L\nwitness quorum %W1\nwitness any %W2\ngroup 2 all quorum any\n" +
			"quorum 2\n",
		"ok-names-are-bytes":    "log %L\nwitness K %W1\nwitness \xe2\x84\xaa %W2\nwitness \xff\xa0 %W3\ngroup K+ all K \xe2\x84\xaa \xff\xa0\nquorum K+\n",
		"ok-two-logs-one-name":  "log %L\nlog " + newSigner(testOrigin, LogKey, testKey("rotated")).String() + "\nquorum none\n",
		"ok-32-of-each":         crowd(32, 32, 32),
		"refused-33-logs":       crowd(33, 1, 1),
		"refused-33-witnesses":  crowd(1, 33, 1),
		"refused-33-groups":     crowd(1, 34, 33),
		"refused-too-large":     "log %L\nquorum none\n" + strings.Repeat("#\n", MaxPolicySize/2),
		"refused-empty":         "",
		"refused-no-log":        "witness a %W1\nquorum a\n",
		"refused-no-quorum":     "log %L\nwitness a %W1\n",
		"refused-two-quorums":   "log %L\nquorum none\nquorum none\n",
		"refused-quorum-bare":   "log %L\nquorum\n",
		"refused-quorum-of-two": "log %L\nwitness a %W1\nwitness b %W2\nquorum a b\n",

		"refused-quorum-undefined":    "log %L\nquorum a\n",
		"refused-quorum-before":       "log %L\nquorum a\nwitness a %W1\n",
		"refused-quorum-None":         "log %L\nquorum None\n",
		"refused-unknown-keyword":     "log %L\nquorum none\nwitnesses a\n",
		"refused-keyword-capital":     "Log %L\nquorum none\n",
		"refused-last-newline":        "log %L\nquorum none",
		"refused-carriage-return":     "log %L\r\nquorum none\r\n",
		"refused-vertical-tab":        "log %L\nquorum\x0bnone\n",
		"refused-nul":                 "log %L\nquorum none\n# \x00\n",
		"refused-delete":              "log %L\nquorum none\n# \x7f\n",
		"refused-comment-behind":      "log %L # ours\nquorum none\n",
		"refused-log-bare":            "log\nquorum none\n",
		"refused-witness-without-key": "log %L\nwitness a\nquorum none\n",
		"refused-witness-two-urls":    "log %L\nwitness a %W1 b c\nquorum none\n",
		"refused-name-none":           "log %L\nwitness none %W1\nquorum none\n",
		"refused-group-name-none":     "log %L\nwitness a %W1\ngroup none any a\nquorum none\n",
		"refused-witness-twice":       "log %L\nwitness a %W1\nwitness a %W2\nquorum a\n",
		"refused-group-is-witness":    "log %L\nwitness a %W1\ngroup a any a\nquorum a\n",
		"refused-group-twice":         "log %L\nwitness a %W1\nwitness b %W2\ngroup g any a\ngroup g any b\nquorum g\n",
		"refused-group-empty":         "log %L\nwitness a %W1\ngroup g any\nquorum g\n",
		"refused-group-of-itself":     "log %L\ngroup g any g\nquorum g\n",
		"refused-member-undefined":    "log %L\nwitness a %W1\ngroup g any a b\nquorum g\n",
		"refused-member-below":        "log %L\ngroup g any a\nwitness a %W1\nquorum g\n",
		"refused-member-none":         "log %L\nwitness a %W1\ngroup g any a none\nquorum g\n",
		"refused-member-twice":        "log %L\nwitness a %W1\ngroup g 2 a a\nquorum g\n",
		"refused-member-of-two":       "log %L\nwitness a %W1\ngroup g any a\ngroup h any a\nquorum g\n",
		"refused-threshold-0":         "log %L\nwitness a %W1\ngroup g 0 a\nquorum g\n",
		"refused-threshold-above":     "log %L\nwitness a %W1\ngroup g 2 a\nquorum g\n",
		"refused-threshold-negative":  "log %L\nwitness a %W1\ngroup g -1 a\nquorum g\n",
		"refused-threshold-01":        "log %L\nwitness a %W1\ngroup g 01 a\nquorum g\n",
		"refused-threshold-plus":      "log %L\nwitness a %W1\ngroup g +1 a\nquorum g\n",
		"refused-threshold-word":      "log %L\nwitness a %W1\ngroup g most a\nquorum g\n",
		"refused-threshold-huge":      "log %L\nwitness a %W1\ngroup g 18446744073709551617 a\nquorum g\n",

		"refused-log-key-twice":    "log %L\nlog " + newSigner("b.example", LogKey, testKey(testOrigin)).String() + "\nquorum none\n",
		"refused-witness-key-once": "log %L\nwitness a %W1\nwitness b %W1\nquorum none\n",
		"refused-witness-key-under-two-names": "log %L\nwitness a %W1\nwitness b " +
			newSigner("w9.example", WitnessKey, testKey("w1.example")).String() + "\nquorum none\n",
		"refused-witness-is-the-log":  "log %L\nwitness a " + newSigner("w.example", WitnessKey, testKey(testOrigin)).String() + "\nquorum none\n",
		"refused-log-with-witnesskey": "log %W1\nquorum none\n",
		"refused-witness-with-logkey": "log %L\nwitness a " + logSigner("w1.example").String() + "\nquorum none\n",
		"refused-key-of-another-type": "log %L\nwitness a " + vkey("w.example", 6, make([]byte, 32)) + "\nquorum none\n",
		"refused-key-long":            "log " + vkey("l.example", 1, make([]byte, 33)) + "\nquorum none\n",
		"refused-key-hash":            "log " + strings.Replace(logSigner(testOrigin).String(), "+", "+0", 1) + "\nquorum none\n",
		"refused-key-hash-other":      "log " + otherHash(logSigner(testOrigin).String()) + "\nquorum none\n",
		"refused-key-hash-capital":    "log " + capitalHash(logSigner(testOrigin).String()) + "\nquorum none\n",
		"refused-key-without-name":    "log " + strings.TrimPrefix(logSigner(testOrigin).String(), testOrigin) + "\nquorum none\n",
		"refused-key-name-unicode-space": "log " + vkey("l\u00a0example", 1, logSigner(testOrigin).public) +
			"\nquorum none\n",
		"refused-key-name-not-utf8": "log " + vkey("l\xff", 1, logSigner(testOrigin).public) + "\nquorum none\n",
		"refused-key-padding":       "log " + logSigner(testOrigin).String() + "=\nquorum none\n",
		"refused-key-not-a-vkey":    "log " + base64.StdEncoding.EncodeToString(make([]byte, 32)) + "\nquorum none\n",
		"refused-key-weak":          "log " + vkey("l.example", 1, append([]byte{1}, make([]byte, 31)...)) + "\nquorum none\n",
		"refused-witness-key-weak":  "log %L\nwitness a " + vkey("w.example", 4, make([]byte, 32)) + "\nquorum none\n",
		"refused-key-not-canonical": "log " + vkey("l.example", 1, append(append([]byte{0xf0}, slices.Repeat([]byte{0xff}, 30)...), 0x7f)) + "\nquorum none\n",
		"refused-key-off-curve":     "log " + vkey("l.example", 1, append([]byte{2}, make([]byte, 31)...)) + "\nquorum none\n",
	}
	keys := strings.NewReplacer("%L", logSigner(testOrigin).String(),
		"%W1", witnessSigner("w1.example").String(), "%W2", witnessSigner("w2.example").String(),
		"%W3", witnessSigner("w3.example").String(), "%W4", witnessSigner("w4.example").String())
	for name, text := range vectors {
		vectors[name] = keys.Replace(text)
	}
	return vectors
}

// vkey encodes keys that NewKey would refuse.
func vkey(name string, kind KeyType, public []byte) string {
	material := append([]byte{byte(kind)}, public...)
	return fmt.Sprintf("%s+%08x+%s", name, noteHash(name, material), base64.StdEncoding.EncodeToString(material))
}

func otherHash(vkey string) string {
	parts := strings.SplitN(vkey, "+", 3)
	return parts[0] + "+00000000+" + parts[2]
}

func capitalHash(vkey string) string {
	parts := strings.SplitN(vkey, "+", 3)
	return parts[0] + "+" + strings.ToUpper(parts[1]) + "+" + parts[2]
}

// crowd is a policy with so many logs, witnesses and groups, groups in a chain.
func crowd(logs, witnesses, groups int) string {
	var b strings.Builder
	for i := range logs {
		fmt.Fprintf(&b, "log %s\n", logSigner(fmt.Sprintf("l%d.example", i)))
	}
	for i := range witnesses {
		fmt.Fprintf(&b, "witness w%d %s\n", i, witnessSigner(fmt.Sprintf("w%d.example", i)))
	}
	fmt.Fprintf(&b, "group g0 any w0\n")
	for i := 1; i < groups; i++ {
		fmt.Fprintf(&b, "group g%d all g%d w%d\n", i, i-1, i)
	}
	fmt.Fprintf(&b, "quorum g%d\n", groups-1)
	return b.String()
}

// TestQuorum tries every set of four witnesses on several quorums.
func TestQuorum(t *testing.T) {
	witnesses := "log %L\nwitness a %W1\nwitness b %W2\nwitness c %W3\nwitness d %W4\n"
	tests := []struct {
		rule string
		want func(a, b, c, d bool) bool
	}{
		{"quorum none\n", func(a, b, c, d bool) bool { return true }},
		{"quorum c\n", func(a, b, c, d bool) bool { return c }},
		{"group g any a b c d\nquorum g\n", func(a, b, c, d bool) bool { return a || b || c || d }},
		{"group g all a b c d\nquorum g\n", func(a, b, c, d bool) bool { return a && b && c && d }},
		{"group g 3 a b c d\nquorum g\n", func(a, b, c, d bool) bool {
			return a && b && c || a && b && d || a && c && d || b && c && d
		}},
		{"group g 1 a b\ngroup h all c d\ngroup i 2 g h\nquorum i\n", func(a, b, c, d bool) bool {
			return (a || b) && c && d
		}},
		{"group g all a b\ngroup h any g c\nquorum h\n", func(a, b, c, d bool) bool { return a && b || c }},
		{"group g all a b\ngroup h any c d\nquorum g\n", func(a, b, c, d bool) bool { return a && b }},
	}
	for _, tt := range tests {
		text := strings.NewReplacer("%L", logSigner(testOrigin).String(),
			"%W1", witnessSigner("w1.example").String(), "%W2", witnessSigner("w2.example").String(),
			"%W3", witnessSigner("w3.example").String(), "%W4", witnessSigner("w4.example").String()).Replace(witnesses + tt.rule)
		policy := mustPolicy(t, text)
		for set := range 16 {
			p := testParts()
			p.signers = p.signers[:1]
			var has [4]bool
			for i := range has {
				if has[i] = set&(1<<i) != 0; has[i] {
					p.signers = append(p.signers, witnessSigner(fmt.Sprintf("w%d.example", i+1)))
				}
			}
			_, err := policy.Verify([]byte(p.String()), []byte(testEntry))
			if want := tt.want(has[0], has[1], has[2], has[3]); (err == nil) != want {
				t.Errorf("%q with %v: %v", tt.rule, has, err)
			}
		}
	}
}

func TestOrigins(t *testing.T) {
	if got := mustPolicy(t, testPolicy()).Origins(); !slices.Equal(got, []string{testOrigin, "other.example"}) {
		t.Errorf("%q", got)
	}
	if got := (*Policy)(nil).Origins(); got != nil {
		t.Errorf("nil policy: %q", got)
	}
}

// TestPolicyErrorNamesTheLine: whoever wrote the policy must find the fault.
func TestPolicyErrorNamesTheLine(t *testing.T) {
	text := policyVectors()["refused-threshold-above"]
	_, err := ParsePolicy([]byte(text))
	if err == nil || !strings.Contains(err.Error(), "line 3") {
		t.Errorf("%v", err)
	}
}
