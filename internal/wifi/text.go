package wifi

import (
	"fmt"
	"strconv"
	"strings"
)

// maxLine bounds one line of the supplicant's answers, in bytes. The longest
// real one is a network with all its ways to log in, below 300.
const maxLine = 4096

// decode undoes wpa_supplicant's printf_encode (src/utils/common.c), exactly:
// what that function could not have written is refused.
func decode(s string) (string, error) {
	if len(s) > maxLine {
		return "", fmt.Errorf("text of %d bytes", len(s))
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"' || c < ' ' || c > '~':
			return "", fmt.Errorf("byte %#02x is not escaped", c)
		case c != '\\':
			b.WriteByte(c)
		default:
			value, used, err := unescape(s[i+1:])
			if err != nil {
				return "", err
			}
			b.WriteByte(value)
			i += used
		}
	}
	return b.String(), nil
}

// unescape reads what stands behind a backslash, and tells how long it is.
func unescape(s string) (value byte, used int, err error) {
	if s == "" {
		return 0, 0, fmt.Errorf("ends with a backslash")
	}
	if i := strings.IndexByte(`\"enrt`, s[0]); i >= 0 {
		return "\\\"\x1b\n\r\t"[i], 1, nil
	}
	if s[0] != 'x' || len(s) < 3 || strings.ContainsAny(s[1:3], "+-_ABCDEF") {
		return 0, 0, fmt.Errorf("unknown escape %q", s[:1])
	}
	n, err := strconv.ParseUint(s[1:3], 16, 8)
	switch {
	case err != nil:
		return 0, 0, fmt.Errorf("escape with bad digits")
	case n >= ' ' && n <= '~' || strings.IndexByte("\x1b\n\r\t", byte(n)) >= 0:
		return 0, 0, fmt.Errorf("escape %q where none is needed", s[:3])
	}
	return byte(n), 3, nil
}

// decodeSSID decodes the name of a network.
func decodeSSID(s string) (string, error) {
	ssid, err := decode(s)
	if err == nil && len(ssid) > MaxSSID {
		err = fmt.Errorf("name of %d bytes", len(ssid))
	}
	return ssid, err
}

// An event is an unsolicited line of the supplicant: a name and key=value
// fields. Words that are neither are left out.
type event struct {
	name   string
	fields map[string]string // values as they came, in quotes if they were
}

// Names of the events that matter here.
const (
	evConnected    = "CTRL-EVENT-CONNECTED"
	evDisconnected = "CTRL-EVENT-DISCONNECTED"
	evDisabled     = "CTRL-EVENT-SSID-TEMP-DISABLED"
	evNotFound     = "CTRL-EVENT-NETWORK-NOT-FOUND"
	evAssocReject  = "CTRL-EVENT-ASSOC-REJECT"
	evAuthReject   = "CTRL-EVENT-AUTH-REJECT"
	evScanStarted  = "CTRL-EVENT-SCAN-STARTED"
	evScanResults  = "CTRL-EVENT-SCAN-RESULTS"
	evScanFailed   = "CTRL-EVENT-SCAN-FAILED"
)

// parseEvent reads "<3>NAME word key=value key="quoted \"value\"" [key=value]".
// Only lines whose name begins with CTRL-EVENT- are events here: others carry
// strangers' words in front. ok is false for those.
func parseEvent(line string) (e event, ok bool) {
	if len(line) > maxLine || len(line) < 3 || line[0] != '<' || line[2] != '>' {
		return event{}, false
	}
	name, rest, _ := strings.Cut(strings.TrimRight(line[3:], "\n"), " ")
	if !strings.HasPrefix(name, "CTRL-EVENT-") {
		return event{}, false
	}
	e = event{name: name, fields: map[string]string{}}
	for rest != "" {
		var word string
		word, rest = cutWord(rest)
		if key, value, is := strings.Cut(strings.Trim(word, "[]"), "="); is && key != "" {
			if _, twice := e.fields[key]; !twice {
				e.fields[key] = value
			}
		}
	}
	return e, true
}

// cutWord cuts at the first space that is not inside quotes.
func cutWord(s string) (word, rest string) {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && quoted:
			i++
		case s[i] == '"':
			quoted = !quoted
		case s[i] == ' ' && !quoted:
			return s[:i], s[i+1:]
		}
	}
	return s, ""
}

// number is a field as a number, or -1.
func (e event) number(key string) int {
	n, err := strconv.Atoi(e.fields[key])
	if err != nil || n < 0 || n > 1<<20 {
		return -1
	}
	return n
}

// parseFields reads an answer of key=value lines; the first of a name counts.
func parseFields(text string) map[string]string {
	fields := map[string]string{}
	for line := range strings.Lines(text) {
		key, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		if _, twice := fields[key]; ok && !twice && len(line) <= maxLine {
			fields[key] = value
		}
	}
	return fields
}
