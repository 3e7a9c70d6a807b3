package bootcfg

import (
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// tomlLines returns where each key of a TOML file is first mentioned: its line,
// from 1, by its name with dots. Tables are keys too. The file has been decoded
// without errors before.
func tomlLines(raw []byte) map[string]int {
	var p unstable.Parser
	p.Reset(raw)
	found := positions{parser: &p, lines: map[string]int{}}
	table := ""
	for p.NextExpression() {
		switch e := p.Expression(); e.Kind {
		case unstable.Table, unstable.ArrayTable:
			table = found.add("", e) + "."
		case unstable.KeyValue:
			found.keyValue(table, e)
		}
	}
	return found.lines
}

type positions struct {
	parser *unstable.Parser
	lines  map[string]int
}

// add notes the key of a node, and returns it.
func (p positions) add(prefix string, n *unstable.Node) string {
	var parts []string
	line := 0
	for key := n.Key(); key.Next(); {
		parts = append(parts, string(key.Node().Data))
		if line == 0 {
			line = p.parser.Shape(key.Node().Raw).Start.Line
		}
	}
	name := prefix + strings.Join(parts, ".")
	if _, known := p.lines[name]; !known {
		p.lines[name] = line
	}
	return name
}

// keyValue notes a key, and those of a table that is its value.
func (p positions) keyValue(prefix string, n *unstable.Node) {
	name := p.add(prefix, n)
	if n.Value().Kind != unstable.InlineTable {
		return
	}
	for inner := n.Value().Children(); inner.Next(); {
		p.keyValue(name+".", inner.Node())
	}
}
