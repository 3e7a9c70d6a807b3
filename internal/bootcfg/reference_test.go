package bootcfg

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write this package's part of the reference anew")

// TestReference: the part of docs/reference/configuration.md about media has each key
// of the command line with what it may be, and each key of the two files with its
// default, both from the code, and with what the shipped files say of it.
func TestReference(t *testing.T) {
	const path = "../../docs/reference/configuration.md"
	there, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok1 := bytes.Cut(there, []byte("<!-- medium -->\n"))
	_, after, ok2 := bytes.Cut(rest, []byte("<!-- /medium -->\n"))
	if !ok1 || !ok2 {
		t.Fatalf("%s has no place for this part", path)
	}
	made := slices.Concat(before, []byte("<!-- medium -->\n"+mediumReference(t)+"<!-- /medium -->\n"), after)
	if *update {
		if err := os.WriteFile(path, made, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(there, made) {
		t.Errorf("%s is not what the code says: run `make reference`", path)
	}
}

func mediumReference(t *testing.T) string {
	t.Helper()
	var out strings.Builder
	out.WriteString("\n## The kernel's command line\n\n| key | value |\n|---|---|\n")
	for key := range strings.SplitSeq(keyNames(), ", ") {
		fmt.Fprintf(&out, "| `%s` | %s |\n", key, escaped(lineKeys()[key].allowed))
	}
	out.WriteString("\n## policy.toml\n")
	told := tellings(t, "../../media/policy.toml")
	config := Default("x86_64")
	for _, k := range explained() {
		if strings.HasPrefix(k.key, "phase.") || k.key == "bootstrap" {
			continue
		}
		here, known := told[k.key]
		if !known {
			t.Errorf("media/policy.toml says nothing of %s", k.key)
		}
		delete(told, k.key)
		value, tables := byDefault(k.get(config))
		if !tables && here.value != value {
			t.Errorf("media/policy.toml has %s = %s; the default is %s", k.key, here.value, value)
		}
		fmt.Fprintf(&out, "\n### `%s`\n\n", k.key)
		if k.line != "" {
			fmt.Fprintf(&out, "Default: `%s`. On the command line: `%s`.\n", value, strings.ReplaceAll(k.line, ", ", "`, `"))
		} else {
			fmt.Fprintf(&out, "Default: `%s`.\n", value)
		}
		out.WriteString(here.markdown())
	}
	for key := range told {
		t.Errorf("media/policy.toml speaks of %s, which is no key", key)
	}
	bootstrap := tellings(t, "../../media/bootstrap-nodes.toml")
	if len(bootstrap) != 1 {
		t.Errorf("media/bootstrap-nodes.toml has the keys %v", bootstrap)
	}
	fmt.Fprintf(&out, "\n## bootstrap-nodes.toml\n%s", bootstrap["bootstrap"].markdown())
	return out.String() + "\n"
}

// byDefault is a default as TOML has it, and whether it consists of tables.
func byDefault(v any) (text string, tables bool) {
	_, tables = v.([]Table)
	if tables {
		return "none", true
	}
	raw, err := json.Marshal(v) // of texts, numbers and lists TOML thinks the same
	if err != nil {
		panic(err)
	}
	return strings.ReplaceAll(string(raw), `","`, `", "`), false
}

// A telling is what a shipped file says of a key.
type telling struct {
	prose   []string // paragraphs
	value   string   // the default that it shows
	example []string // of tables: lines
}

func (t telling) markdown() string {
	var out strings.Builder
	for _, p := range t.prose {
		fmt.Fprintf(&out, "\n%s\n", escaped(p))
	}
	if t.example != nil {
		fmt.Fprintf(&out, "\n```toml\n%s\n```\n", strings.Join(t.example, "\n"))
	}
	return out.String()
}

// tellings reads a file whose keys all stand behind comment signs. What stands before
// a key, up to the one before, is about it.
func tellings(t *testing.T, path string) map[string]telling {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, body, ok := strings.Cut(string(raw), "\n\n") // behind what is about the file
	if !ok {
		body = string(raw)
	}
	var (
		told          = map[string]telling{}
		header        = regexp.MustCompile(`^#(\[+)([a-z_.]+)\]+$`)
		setting       = regexp.MustCompile(`^#([a-z_]+) = (.*)$`)
		prose         []string
		table, tables string
		open          bool // the last paragraph goes on
	)
	for line := range strings.Lines(body) {
		line = strings.TrimRight(line, "\n")
		switch h, s := header.FindStringSubmatch(line), setting.FindStringSubmatch(line); {
		case h != nil && h[1] == "[":
			table, tables, open = h[2]+".", "", false
		case h != nil:
			tables, open = h[2], false
			k := told[tables]
			k.prose, prose = append(k.prose, prose...), nil
			if k.example != nil {
				k.example = append(k.example, "")
			}
			k.example = append(k.example, line[1:])
			told[tables] = k
		case s != nil && tables != "":
			k := told[tables]
			k.example = append(k.example, line[1:])
			told[tables] = k
		case s != nil:
			told[table+s[1]] = telling{prose: prose, value: s[2]}
			prose, open = nil, false
		case strings.HasPrefix(line, "# "):
			if open {
				prose[len(prose)-1] += "\n" + line[2:]
			} else {
				prose, open = append(prose, line[2:]), true
			}
		case line == "#":
			open = false
		case line == "":
			tables, open = "", false
		default:
			t.Errorf("%s: %q is neither a remark nor a key behind a comment sign", path, line)
		}
	}
	if len(prose) > 0 {
		t.Errorf("%s: nothing follows %q", path, prose)
	}
	return told
}

// escaped is text that Markdown is not to read otherwise.
func escaped(s string) string {
	return strings.NewReplacer("<", `\<`, "*", `\*`, "|", `\|`).Replace(s)
}
