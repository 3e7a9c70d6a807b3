package strictjson

import (
	"bytes"
	"fmt"
	"maps"
	"slices"

	"github.com/go-json-experiment/json"
)

// CanonicalizeOLPC returns the canonical form that TUF signs (TUF 1.0
// specification, section 4.2.1: http://wiki.laptop.org/go/Canonical_JSON):
// members sorted by name, no white space, and only the quote and the backslash
// escaped. Strings with control characters are refused, as that form would
// write them raw and the result would no longer be JSON.
func CanonicalizeOLPC(data []byte, lim Limits) ([]byte, error) {
	if err := check(data, lim); err != nil {
		return nil, err
	}
	return appendOLPC(make([]byte, 0, len(data)), Raw(data))
}

// appendOLPC recurses at most as deep as check allowed.
func appendOLPC(dst []byte, v Raw) ([]byte, error) {
	switch v.Kind() {
	case '{':
		return appendObject(dst, v)
	case '[':
		return appendArray(dst, v)
	case '"':
		var s string
		if err := json.Unmarshal(v, &s); err != nil {
			return nil, err
		}
		return appendString(dst, s)
	default:
		return append(dst, bytes.TrimSpace(v)...), nil
	}
}

func appendObject(dst []byte, v Raw) (_ []byte, err error) {
	var members map[string]Raw
	if err := json.Unmarshal(v, &members); err != nil {
		return nil, err
	}
	dst = append(dst, '{')
	for i, name := range slices.Sorted(maps.Keys(members)) {
		if i > 0 {
			dst = append(dst, ',')
		}
		if dst, err = appendString(dst, name); err != nil {
			return nil, err
		}
		dst = append(dst, ':')
		if dst, err = appendOLPC(dst, members[name]); err != nil {
			return nil, err
		}
	}
	return append(dst, '}'), nil
}

func appendArray(dst []byte, v Raw) (_ []byte, err error) {
	var elements []Raw
	if err := json.Unmarshal(v, &elements); err != nil {
		return nil, err
	}
	dst = append(dst, '[')
	for i, element := range elements {
		if i > 0 {
			dst = append(dst, ',')
		}
		if dst, err = appendOLPC(dst, element); err != nil {
			return nil, err
		}
	}
	return append(dst, ']'), nil
}

func appendString(dst []byte, s string) ([]byte, error) {
	dst = append(dst, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c < 0x20:
			return nil, fmt.Errorf("%w: control character %#02x in a string", ErrSyntax, c)
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"'), nil
}
