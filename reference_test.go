package phase

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A known command is what a page of the reference says of it. Those pages are what the
// programs say: tests beside the programs see to that.
type knownCommand struct {
	flags map[string]bool // with their hyphens
	group bool            // it only holds others
}

// foreignFlags are those of other people's programs that pages mention by themselves.
var foreignFlags = []string{
	"--add", // VBoxManage
}

// TestFlagsInPages: wherever a page calls one of our programs, command and flags exist;
// and so does a flag that it mentions by itself.
func TestFlagsInPages(t *testing.T) {
	commands := referenced(t)
	anywhere := map[string]bool{}
	for _, c := range commands {
		for f := range c.flags {
			anywhere[f] = true
		}
	}
	calls, mentions := 0, 0
	for page, text := range pages(t) {
		if strings.HasPrefix(page, "docs/reference/") && commands[strings.TrimSuffix(filepath.Base(page), ".md")] != nil {
			continue
		}
		fenced, inline := code(text)
		for _, line := range append(fenced, inline...) {
			for _, call := range ourCalls(line) {
				calls++
				if problem := misused(commands, call); problem != "" {
					t.Errorf("%s: %s: %s", page, strings.Join(call, " "), problem)
				}
			}
		}
		for _, span := range inline {
			for _, m := range regexp.MustCompile(`^--[a-z][a-z0-9-]*`).FindAllString(span, -1) {
				mentions++
				if !anywhere[m] && !slices.Contains(foreignFlags, m) {
					t.Errorf("%s: no command has the flag %s", page, m)
				}
			}
		}
	}
	if calls < 200 || mentions < 100 || len(commands) < 60 {
		t.Errorf("only %d calls, %d flags and %d commands found", calls, mentions, len(commands))
	}
}

// referenced are all commands, by their paths.
func referenced(t *testing.T) map[string]*knownCommand {
	t.Helper()
	commands := map[string]*knownCommand{}
	for _, name := range []string{"phase", "plasmd", "phase-discover", "phase-fetch", "phase-verify"} {
		raw, err := os.ReadFile("docs/reference/" + name + ".md")
		if err != nil {
			t.Fatal(err)
		}
		var c *knownCommand
		add := func(path string) {
			for at := range path {
				if path[at] == ' ' && commands[path[:at]] == nil {
					commands[path[:at]] = &knownCommand{group: true}
				}
			}
			c = &knownCommand{flags: map[string]bool{"--help": true, "-h": true}, group: true}
			commands[path] = c
		}
		for line := range strings.Lines(string(raw)) {
			switch m := regexp.MustCompile("^(?:##? (.+)|\\| `((?:-[a-zA-Z], )?--[a-z0-9-]+).*)$").FindStringSubmatch(strings.TrimSpace(line)); {
			case m == nil:
				if c != nil && line == "```text\n" {
					c.group = false
				}
			case m[1] != "":
				add(m[1])
			default:
				for f := range strings.SplitSeq(m[2], ", ") {
					c.flags[f] = true
				}
			}
		}
	}
	for _, program := range []string{"phase", "plasmd"} { // what cobra brings, and the reference leaves out
		commands[program].group = true
		commands[program].flags["--version"] = true
		for _, shell := range []string{"", " bash", " zsh", " fish"} {
			commands[program+" completion"+shell] = &knownCommand{flags: map[string]bool{"--help": true}}
		}
	}
	return commands
}

// pages are the repository's pages by name, with all that is in them.
func pages(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for name := range markdown(t) {
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all[name] = string(raw)
	}
	return all
}

// code is what a page sets apart: the lines of its blocks, those that end in a
// backslash with the next, and what stands between backticks.
func code(text string) (fenced, inline []string) {
	blocks := regexp.MustCompile("(?ms)^ *```.*?^ *```$")
	for _, b := range blocks.FindAllString(text, -1) {
		lines := strings.Split(strings.ReplaceAll(b, "\\\n", " "), "\n")
		fenced = append(fenced, lines[1:len(lines)-1]...)
	}
	for _, m := range regexp.MustCompile("(?s)`([^`]+)`").FindAllStringSubmatch(blocks.ReplaceAllString(text, ""), -1) {
		inline = append(inline, strings.ReplaceAll(m[1], "\n", " "))
	}
	return fenced, inline
}

// ourCalls are the calls of our programs in a line of shell, as words.
func ourCalls(line string) (calls [][]string) {
	line = regexp.MustCompile(`"[^"]*"|'[^']*'`).ReplaceAllString(line, "QUOTED")
	line, _, _ = strings.Cut(line, " # ")
	for _, part := range regexp.MustCompile(`\|\|?|&&|;|\$\(|\)|>`).Split(line, -1) {
		words := strings.Fields(part)
		for len(words) > 0 && (slices.Contains([]string{"$", "sudo", "exec", "time", "if", "!", "then", "do"}, words[0]) || strings.Contains(words[0], "=")) {
			words = words[1:]
		}
		if len(words) > 1 && slices.Contains([]string{"phase", "plasmd", "phase-discover", "phase-fetch", "phase-verify"}, filepath.Base(words[0])) {
			calls = append(calls, append([]string{filepath.Base(words[0])}, words[1:]...))
		}
	}
	return calls
}

// misused says what a call has that the program has not, "" for nothing.
func misused(commands map[string]*knownCommand, call []string) string {
	path, rest := call[0], call[1:]
	for len(rest) > 0 && commands[path+" "+rest[0]] != nil {
		path, rest = path+" "+rest[0], rest[1:]
	}
	c := commands[path]
	if c.group && len(rest) > 0 && regexp.MustCompile(`^[a-z][a-z-]+$`).MatchString(rest[0]) {
		return path + " has no command " + rest[0]
	}
	for _, word := range rest {
		if strings.HasSuffix(word, ".wasm") && path != "phase job verify" || word == "--" {
			return "" // the rest is the module's
		}
		name := regexp.MustCompile(`^(?:--[a-z][a-z0-9-]*|-[a-zA-Z]$)`).FindString(word)
		if name != "" && !c.flags[name] {
			return path + " has no flag " + name
		}
	}
	return ""
}

// TestEnvironment: docs/reference/configuration.md has a row for each environment
// variable that a command reads, and none for others.
func TestEnvironment(t *testing.T) {
	raw, err := os.ReadFile("docs/reference/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(raw), "\n## Environment variables\n")
	told := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| (`.+?`) \\|").FindAllStringSubmatch(table, -1) {
		for _, name := range regexp.MustCompile("`([A-Z_]+)`").FindAllStringSubmatch(row[1], -1) {
			told[name[1]] = false
		}
	}
	// Read by Go's standard library, and by the service's unit.
	for _, name := range []string{"HOME", "XDG_CACHE_HOME", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "PHASE_ARGS"} {
		told[name] = true
	}
	for _, files := range sources(t) {
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range regexp.MustCompile(`os\.(?:Getenv|LookupEnv)\("([A-Z_]+)"\)`).FindAllStringSubmatch(string(text), -1) {
				if _, known := told[m[1]]; !known && !strings.HasPrefix(m[1], "PHASE_REQUIRE_") {
					t.Errorf("%s reads %s, of which the page says nothing", file, m[1])
				}
				told[m[1]] = true
			}
		}
	}
	for name, read := range told {
		if !read {
			t.Errorf("the page has a row for %s, which no command reads", name)
		}
	}
}
