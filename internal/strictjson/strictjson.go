// Package strictjson reads foreign JSON without guessing, and writes JSON in
// one canonical form.
//
// Two programs that read the same signed bytes must see the same values. So
// the reader refuses whatever parsers are known to disagree about: duplicate
// names, names in another case, invalid UTF-8 and lone surrogates, bytes after
// the document, numbers that are not plain integers or that a float64 cannot
// hold (RFC 7493, section 2.2), and it caps size and depth before anything is
// allocated. The writer produces RFC 8785 restricted to that subset.
//
// The package wraps github.com/go-json-experiment/json; encoding/json is not
// usable here, as it lets the last duplicate win, folds case and repairs UTF-8.
package strictjson

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Raw is one JSON value as it was written. Embedded in a struct with the tag
// `json:",embed"` it keeps the members that the struct does not know.
type Raw = jsontext.Value

// Limits bounds what Unmarshal accepts. A zero Bytes or Depth means the
// default beside it, never "no limit".
type Limits struct {
	Bytes         int  // size of the whole document; default 1 MiB
	Depth         int  // nesting of objects and arrays; default 32
	RejectUnknown bool // refuse members that the Go type does not name
	RejectNull    bool // refuse null anywhere, as it would read as a zero value
}

const (
	defaultBytes = 1 << 20
	defaultDepth = 32

	// MaxInt is the largest integer, and -MaxInt the smallest, that every
	// JSON implementation holds exactly (RFC 7493, section 2.2).
	MaxInt = 1<<53 - 1
)

// Reasons for which a document is refused; match them with errors.Is.
var (
	ErrSize   = errors.New("document is too large")
	ErrDepth  = errors.New("document is nested too deeply")
	ErrSyntax = errors.New("not strict JSON")
	ErrNumber = errors.New("number is not a plain integer within ±(2^53-1)")
	ErrNull   = errors.New("null is not allowed")
	ErrType   = errors.New("value does not fit")
)

// Unmarshal reads the one JSON document in data into v, a non-nil pointer.
// Nothing is stored in v unless data is strict JSON within lim; v's content is
// unspecified after ErrType.
func Unmarshal(data []byte, v any, lim Limits) error {
	if err := check(data, lim); err != nil {
		return err
	}
	if err := json.Unmarshal(data, v, json.RejectUnknownMembers(lim.RejectUnknown)); err != nil {
		return fmt.Errorf("%w: %w", ErrType, shown{inDocument(err)})
	}
	return nil
}

// inDocument leaves out of which type of this program a value was to become a part, where
// the reason and the place in the document say enough.
func inDocument(err error) error {
	var s *json.SemanticError
	if !errors.As(err, &s) || s.Err == nil || s.JSONPointer == "" {
		return err
	}
	return fmt.Errorf("at %s: %w", s.JSONPointer, s.Err)
}

// MarshalCanonical encodes v in the one form that every encoder agrees on:
// members sorted by name, no white space, shortest escapes (RFC 8785). It
// fails for numbers outside the subset that Unmarshal accepts.
func MarshalCanonical(v any) ([]byte, error) {
	raw, err := Marshal(v)
	if err != nil {
		return nil, err
	}
	return sorted(raw)
}

// Marshal encodes v without white space, for documents that nobody signs: members
// are in the order of their fields. It fails as MarshalCanonical does, and takes half
// as long.
func Marshal(v any) ([]byte, error) {
	raw, err := json.Marshal(v, json.Deterministic(true))
	if err != nil {
		return nil, err
	}
	return raw, check(raw, Limits{Bytes: len(raw)})
}

// Canonicalize returns the canonical form of the strict JSON document in data,
// which is left alone.
func Canonicalize(data []byte, lim Limits) ([]byte, error) {
	if err := check(data, lim); err != nil {
		return nil, err
	}
	return sorted(bytes.Clone(data))
}

// sorted is the canonical form of what check has passed, which it overwrites.
func sorted(data []byte) ([]byte, error) {
	value := jsontext.Value(data)
	if err := value.Canonicalize(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSyntax, shown{err})
	}
	return value, nil
}

// check walks the tokens of data once, without recursion and without building
// anything, and applies every rule that does not depend on the Go type.
func check(data []byte, lim Limits) error {
	maxBytes, maxDepth := lim.Bytes, lim.Depth
	if maxBytes <= 0 {
		maxBytes = defaultBytes
	}
	if maxDepth <= 0 {
		maxDepth = defaultDepth
	}
	if len(data) > maxBytes {
		return fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrSize, len(data), maxBytes)
	}
	dec := jsontext.NewDecoder(bytes.NewBuffer(data))
	for first := true; first || dec.StackDepth() > 0; first = false {
		token, err := dec.ReadToken()
		if err != nil {
			return fmt.Errorf("%w: %w", ErrSyntax, shown{noEOF(err)})
		}
		if dec.StackDepth() > maxDepth {
			return fmt.Errorf("%w: more than %d levels", ErrDepth, maxDepth)
		}
		switch {
		case token.Kind() == '0' && !plainInteger(token.String()):
			return fmt.Errorf("%w: %.40s at %.80q", ErrNumber, token.String(), dec.StackPointer())
		case token.Kind() == 'n' && lim.RejectNull:
			return fmt.Errorf("%w: at %.80q", ErrNull, dec.StackPointer())
		}
	}
	if _, err := dec.ReadToken(); err != io.EOF {
		return fmt.Errorf("%w: bytes after the document", ErrSyntax)
	}
	return nil
}

// plainInteger reports whether s, a valid JSON number, has the form
// -?(0|[1-9][0-9]*), is not -0, and lies within ±MaxInt.
func plainInteger(s string) bool {
	n, err := strconv.ParseInt(s, 10, 64) // refuses '.', 'e' and 'E'
	return err == nil && s != "-0" && -MaxInt <= n && n <= MaxInt
}

// maxShown bounds the text of an error, in characters: names of members come
// from strangers, and may fill a document.
const maxShown = 240

// shown is an error whose text is fit for a terminal: short, and without
// characters that mean something to it.
type shown struct{ error }

// Error implements error.
func (e shown) Error() string {
	text := []rune(e.error.Error())
	if len(text) > maxShown {
		text = append(text[:maxShown], '…')
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, string(text))
}

// Unwrap returns the error as it was.
func (e shown) Unwrap() error { return e.error }

// noEOF turns the end of input inside a document into an error of its own, so
// that no caller mistakes it for a clean end.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
