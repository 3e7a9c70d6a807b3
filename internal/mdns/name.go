package mdns

import (
	"errors"
	"fmt"
	"strings"
)

// name is a domain name in wire form without compression: each label behind its
// length, then a zero byte, at most 255 bytes. Unlike the dotted form it leaves no
// doubt where an instance name with dots in it ends.
type name string

var errName = errors.New("malformed domain name")

// newName joins labels.
func newName(labels ...string) (name, error) {
	var b strings.Builder
	for _, l := range labels {
		if len(l) == 0 || len(l) > 63 {
			return "", fmt.Errorf("%w: label of %d bytes", errName, len(l))
		}
		b.WriteByte(byte(len(l)))
		b.WriteString(l)
	}
	b.WriteByte(0)
	if b.Len() > 255 {
		return "", fmt.Errorf("%w: %d bytes", errName, b.Len())
	}
	return name(b.String()), nil
}

// fold makes names comparable: DNS does not tell ASCII letters' case apart. The
// length bytes are at most 63 and thus no letters.
func (n name) fold() name {
	b := []byte(n)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return name(b)
}

// below returns the one label that n has in front of parent.
func (n name) below(parent name) (label string, ok bool) {
	if len(n) < 2 || len(n) != 1+int(n[0])+len(parent) || n[1+int(n[0]):].fold() != parent.fold() {
		return "", false
	}
	return string(n[1 : 1+int(n[0])]), true
}

// String is the dotted form, with dots and backslashes inside labels escaped. It
// is meant for people: other bytes are as they are.
func (n name) String() string {
	var b strings.Builder
	for len(n) > 1 && int(n[0]) < len(n)-1 {
		label := string(n[1 : 1+int(n[0])])
		b.WriteString(strings.NewReplacer(`\`, `\\`, `.`, `\.`).Replace(label))
		b.WriteByte('.')
		n = n[1+int(n[0]):]
	}
	return b.String()
}
