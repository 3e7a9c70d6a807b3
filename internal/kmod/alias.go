package kmod

import "strings"

// prefixLen is how much of a pattern is used as a key. It covers bus and vendor
// of the two largest families: "pci:v00001AF4", "usb:v046DpC52".
const prefixLen = 13

// alias is one pattern with the module it stands for; order is its place among
// all, as two modules that match load in the order of the file.
type alias struct {
	pattern, module string
	order           int
}

// aliasTable finds patterns by their fixed beginning: those with prefixLen
// fixed bytes in long, those with at least a fixed "bus:" in short, the few
// others in rest.
type aliasTable struct {
	long, short map[string][]alias
	rest        []alias
	count       int
}

// addFile reads the lines "alias pattern module".
func (t *aliasTable) addFile(text string) {
	const word = "alias "
	eachLine(text, func(line string) {
		if !strings.HasPrefix(line, word) {
			return
		}
		// The module is the last word: patterns hold no spaces.
		if i := strings.LastIndexByte(line, ' '); i > len(word) {
			t.add(line[len(word):i], line[i+1:])
		}
	})
}

func (t *aliasTable) add(pattern, module string) {
	if t.long == nil {
		t.long, t.short = make(map[string][]alias), make(map[string][]alias)
	}
	a := alias{pattern: pattern, module: module, order: t.count}
	t.count++
	n := fixed(pattern)
	if n >= prefixLen {
		k := key(pattern[:prefixLen])
		t.long[k] = append(t.long[k], a)
		return
	}
	if i := strings.IndexByte(pattern[:n], ':'); i >= 0 {
		k := key(pattern[:i])
		t.short[k] = append(t.short[k], a)
		return
	}
	t.rest = append(t.rest, a)
}

// key makes '-' and '_' equal, as matching does.
func key(s string) string { return normal(s) }

// fixed is the length of the part before the first special character, looked
// for only as far as it matters.
func fixed(pattern string) int {
	n := min(len(pattern), prefixLen)
	for i := range n {
		switch pattern[i] {
		case '*', '?', '[', '\\':
			return i
		}
	}
	return n
}

// match calls found with the module of every pattern that matches, in order.
func (t *aliasTable) match(modalias string, found func(module string)) {
	var lists [3][]alias
	if len(modalias) >= prefixLen {
		lists[0] = t.long[key(modalias[:prefixLen])]
	}
	if i := strings.IndexByte(modalias, ':'); i >= 0 {
		lists[1] = t.short[key(modalias[:i])]
	}
	lists[2] = t.rest
	for {
		best := -1
		for i, list := range lists {
			if len(list) > 0 && (best < 0 || list[0].order < lists[best][0].order) {
				best = i
			}
		}
		if best < 0 {
			return
		}
		if a := lists[best][0]; Match(a.pattern, modalias) {
			found(Name(a.module))
		}
		lists[best] = lists[best][1:]
	}
}

// each calls f with every alias, in no order.
func (t *aliasTable) each(f func(alias)) {
	for _, lists := range []map[string][]alias{t.long, t.short} {
		for _, list := range lists {
			for _, a := range list {
				f(a)
			}
		}
	}
	for _, a := range t.rest {
		f(a)
	}
}

// Match tells whether a pattern of modules.alias matches the whole of s, as
// modprobe does: '*', '?', '[a-z]', '[!a-z]' and backslash as in fnmatch(3),
// and '-' the same as '_' outside of brackets. A pattern with an open bracket
// matches nothing. Time is at most len(pattern) * len(s).
func Match(pattern, s string) bool {
	star, mark := -1, 0 // where to go on when a later part does not fit
	p, i := 0, 0
	for i < len(s) || p < len(pattern) {
		if p < len(pattern) && pattern[p] == '*' {
			star, mark = p, i
			p++
			continue
		}
		if p < len(pattern) && i < len(s) {
			if n := matchOne(pattern[p:], s[i]); n > 0 {
				p += n
				i++
				continue
			}
		}
		if star < 0 || mark >= len(s) {
			return false
		}
		mark++
		p, i = star+1, mark
	}
	return true
}

// matchOne matches one byte with the element at the start of pattern and gives
// that element's length, or 0.
func matchOne(pattern string, c byte) int {
	switch pattern[0] {
	case '?':
		return 1
	case '[':
		return matchClass(pattern, c)
	case '\\':
		if len(pattern) > 1 && same(pattern[1], c) {
			return 2
		}
		return 0
	}
	if same(pattern[0], c) {
		return 1
	}
	return 0
}

func same(a, b byte) bool {
	return a == b || (a == '-' || a == '_') && (b == '-' || b == '_')
}

// matchClass matches c with a bracket expression; a ']' in the first place
// stands for itself.
func matchClass(pattern string, c byte) int {
	i, negated, hit := 1, false, false
	if i < len(pattern) && (pattern[i] == '!' || pattern[i] == '^') {
		negated = true
		i++
	}
	for first := i; i < len(pattern); i++ {
		lo := pattern[i]
		if lo == ']' && i > first {
			if hit != negated {
				return i + 1
			}
			return 0
		}
		hi := lo
		if i+2 < len(pattern) && pattern[i+1] == '-' && pattern[i+2] != ']' {
			hi = pattern[i+2]
			i += 2
		}
		if lo <= c && c <= hi {
			hit = true
		}
	}
	return 0 // no closing bracket
}
