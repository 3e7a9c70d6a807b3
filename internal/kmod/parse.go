package kmod

import "strings"

// eachLine calls f with every line of text that is not empty and no comment.
func eachLine(text string, f func(line string)) {
	for len(text) > 0 {
		var line string
		line, text, _ = strings.Cut(text, "\n")
		if line != "" && line[0] != '#' {
			f(line)
		}
	}
}

// parseDep notes the lines "kernel/a.ko: kernel/b.ko kernel/c.ko".
func parseDep(data []byte) map[string]depLine {
	deps := make(map[string]depLine, len(data)/96)
	eachLine(string(data), func(line string) {
		if file, rest, ok := strings.Cut(line, ":"); ok && file != "" {
			deps[Name(file)] = depLine{path: file, deps: rest}
		}
	})
	return deps
}

// parseBuiltin reads the paths of modules that are part of the kernel.
func parseBuiltin(data []byte) map[string]bool {
	builtin := make(map[string]bool, len(data)/32)
	eachLine(string(data), func(line string) { builtin[Name(line)] = true })
	return builtin
}

// parseSoftdep reads the lines "softdep a pre: b c post: d".
func parseSoftdep(data []byte) map[string]softdep {
	soft := make(map[string]softdep)
	eachLine(string(data), func(line string) {
		words := strings.Fields(line)
		if len(words) < 3 || words[0] != "softdep" {
			return
		}
		name := Name(words[1])
		s := soft[name]
		s.add(words[2:])
		soft[name] = s
	})
	return soft
}

func (s *softdep) add(words []string) {
	list := &s.pre
	for i, word := range words {
		switch {
		case word == "pre:":
			list = &s.pre
		case word == "post:":
			list = &s.post
		case i > 0: // a word before the first list belongs to none
			*list = append(*list, Name(word))
		}
	}
}

// addBuiltinInfo reads "module.key=value" records that end with NUL.
func (x *Index) addBuiltinInfo(text string) {
	for len(text) > 0 {
		var record string
		record, text, _ = strings.Cut(text, "\x00")
		name, rest, ok := strings.Cut(record, ".")
		if !ok || name == "" {
			continue
		}
		if pattern, ok := strings.CutPrefix(rest, "alias="); ok {
			x.builtin[Name(name)] = true
			x.aliases.add(pattern, name)
		} else if strings.HasPrefix(rest, "file=") {
			x.builtin[Name(name)] = true
		}
	}
}
