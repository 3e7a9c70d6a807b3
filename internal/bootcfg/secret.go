package bootcfg

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
)

const hidden = "***"

// Secret is text that is never shown: neither by fmt with any verb, nor in logs,
// nor as JSON or TOML. Who needs it converts it: string(s).
type Secret string

// String says whether there is something, and nothing of what it is.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return hidden
}

// Format keeps %x, %q and %#v from showing it.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// LogValue is for log/slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText is for JSON, and for logs that write it.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Proxy is the URL of an HTTP proxy, as ParseProxy returns it. Its user name and
// password are never shown, as with Secret; string(p) has them.
type Proxy string

// String is the URL without user name and password.
func (p Proxy) String() string { return withoutUser(string(p)) }

// Format keeps %x, %q and %#v from showing more.
func (p Proxy) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, p.String()) }

// LogValue is for log/slog.
func (p Proxy) LogValue() slog.Value { return slog.StringValue(p.String()) }

// MarshalText is for JSON, and for logs that write it.
func (p Proxy) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// withoutUser hides what stands before an at sign, but for a scheme. It does not
// parse: what is no URL may hold a password too.
func withoutUser(s string) string {
	at := strings.LastIndexByte(s, '@')
	if at < 0 {
		return s
	}
	scheme := ""
	if before, _, ok := strings.Cut(s[:at], "://"); ok && isAlnum(before, "+-.") {
		scheme = before + "://"
	}
	return scheme + hidden + s[at:]
}

// refusedProxy shows of what is no proxy's URL that there is something: with the
// host forgotten or a blank in it, nothing tells its password from the rest.
func refusedProxy(s string) string { return Secret(s).String() }
