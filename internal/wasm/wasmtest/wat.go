// Package wasmtest assembles small WebAssembly modules from text, so that
// tests can show the guest they run and the smallest example job has a
// readable source. It knows a flat (unfolded) subset of the text format:
// imported functions, one memory, functions with i32 and i64 values, exports,
// a start function and data segments. It is not meant for anything larger, and
// reads only text that belongs to this repository.
//
// Source: WebAssembly Core Specification 2.0, chapters 5 (binary format) and
// 6 (text format).
package wasmtest

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
)

// Assemble turns text into a binary module. The same text always gives the
// same bytes.
func Assemble(text string) ([]byte, error) {
	tokens, err := tokenize(text)
	if err != nil {
		return nil, err
	}
	root, rest, err := parse(tokens)
	if err != nil {
		return nil, err
	}
	if len(rest) != 0 || len(root.list) == 0 || root.list[0].atom != "module" {
		return nil, fmt.Errorf("wat: expected one (module …)")
	}
	a := assembler{funcs: map[string]uint32{}}
	for _, field := range root.list[1:] {
		if err := a.declare(field); err != nil {
			return nil, err
		}
	}
	for _, f := range a.bodies {
		code, err := a.function(f)
		if err != nil {
			return nil, err
		}
		a.code = append(a.code, code)
	}
	return a.module(), nil
}

// node is an atom, a string or a list.
type node struct {
	atom  string
	str   []byte
	isStr bool
	list  []node
}

// is reports whether n is a list that starts with the atom head.
func (n node) is(head string) bool { return len(n.list) > 0 && n.list[0].atom == head }

func tokenize(text string) ([]string, error) {
	var tokens []string
	for i := 0; i < len(text); {
		switch c := text[i]; {
		case c == ' ' || c == '\n' || c == '\t' || c == '\r':
			i++
		case strings.HasPrefix(text[i:], ";;"):
			end := strings.IndexByte(text[i:], '\n')
			if end < 0 {
				return tokens, nil
			}
			i += end
		case c == '(' || c == ')':
			tokens, i = append(tokens, string(c)), i+1
		case c == '"':
			end := i + 1
			for end < len(text) && text[end] != '"' {
				if text[end] == '\\' {
					end++
				}
				end++
			}
			if end >= len(text) {
				return nil, fmt.Errorf("wat: string without an end")
			}
			tokens, i = append(tokens, text[i:end+1]), end+1
		default:
			size := strings.IndexAny(text[i:], " \n\t\r();\"")
			if size < 0 {
				size = len(text) - i
			}
			tokens, i = append(tokens, text[i:i+size]), i+size
		}
	}
	return tokens, nil
}

func parse(tokens []string) (node, []string, error) {
	if len(tokens) == 0 {
		return node{}, nil, fmt.Errorf("wat: unexpected end")
	}
	head, rest := tokens[0], tokens[1:]
	switch {
	case head == ")":
		return node{}, nil, fmt.Errorf("wat: unexpected )")
	case head[0] == '"':
		s, err := unquote(head[1 : len(head)-1])
		return node{str: s, isStr: true}, rest, err
	case head != "(":
		return node{atom: head}, rest, nil
	}
	var list []node
	for len(rest) > 0 && rest[0] != ")" {
		var n node
		var err error
		if n, rest, err = parse(rest); err != nil {
			return node{}, nil, err
		}
		list = append(list, n)
	}
	if len(rest) == 0 {
		return node{}, nil, fmt.Errorf("wat: missing )")
	}
	return node{list: list}, rest[1:], nil
}

// unquote knows \n, \\, \" and \hh.
func unquote(s string) ([]byte, error) {
	out := []byte{}
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			out = append(out, s[i])
			continue
		}
		i++
		switch c := s[i]; c {
		case 'n':
			out = append(out, '\n')
		case '\\', '"':
			out = append(out, c)
		default:
			if i+2 > len(s) {
				return nil, fmt.Errorf("wat: bad escape in %q", s)
			}
			b, err := strconv.ParseUint(s[i:i+2], 16, 8)
			if err != nil {
				return nil, fmt.Errorf("wat: bad escape in %q", s)
			}
			out = append(out, byte(b))
			i++
		}
	}
	return out, nil
}

func uleb(b []byte, v uint64) []byte { return binary.AppendUvarint(b, v) }

func sleb(b []byte, v int64) []byte {
	for {
		c := byte(v & 0x7f)
		v >>= 7
		if (v == 0 && c&0x40 == 0) || (v == -1 && c&0x40 != 0) {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}

// sized prefixes b with its length.
func sized(b []byte) []byte { return append(uleb(nil, uint64(len(b))), b...) }

// vector joins items behind their count.
func vector(items [][]byte) []byte {
	out := uleb(nil, uint64(len(items)))
	for _, it := range items {
		out = append(out, it...)
	}
	return out
}
