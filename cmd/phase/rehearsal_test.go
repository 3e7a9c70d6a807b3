package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io/fs"
	mathrand "math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/phasebased/phase/cmd/internal/ceremony"
	"github.com/phasebased/phase/cmd/internal/steps"
	"github.com/phasebased/phase/internal/keyfile"
)

// What a rehearsal changes about the programs it runs: the calendar, cheap
// passphrases, and that the kernel kills them if they ask for a socket.
const (
	rehearsalNow     = "REHEARSAL_NOW" // RFC 3339; set in every rehearsal
	rehearsalStart   = "2026-03-02T09:00:00Z"
	rehearsalSockets = "REHEARSAL_SOCKETS" // "allowed": do not call the kernel
)

// rehearsing returns the rehearsal's calendar; false outside of rehearsals.
func rehearsing() (func() time.Time, bool) {
	text, ok := os.LookupEnv(rehearsalNow)
	if !ok {
		return nil, false
	}
	now, err := time.Parse(time.RFC3339, text)
	if err == nil && os.Getenv(rehearsalSockets) != "allowed" {
		err = forbidSockets()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "rehearsal:", err)
		os.Exit(3)
	}
	return func() time.Time { return now }, true
}

// phaseProgram is main, with the rehearsal's calendar if there is one.
func phaseProgram() {
	now, ok := rehearsing()
	if !ok {
		main()
		return
	}
	root := newRoot()
	for _, cmd := range root.Commands() {
		if cmd.Name() == "release" {
			root.RemoveCommand(cmd)
		}
	}
	root.AddCommand(releaseCommand(ceremony.Config{Now: now, Keys: keyfile.Files{WorkFactor: 4}}))
	if err := root.ExecuteContext(context.Background()); err != nil {
		report(err)
		os.Exit(exitStatus(err))
	}
}

func verifyProgram() {
	now, ok := rehearsing()
	if !ok {
		now = time.Now
	}
	os.Exit(steps.Verify(os.Args[1:], steps.Env{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Now: now}))
}

// dialProgram does what no ceremony may do.
func dialProgram() {
	rehearsing()
	dial()
}

// dial asks for a socket; whether anybody listens does not matter.
func dial() {
	conn, err := net.Dial("udp", "127.0.0.1:9")
	if err == nil {
		err = conn.Close()
	}
	fmt.Println("got a socket", err)
}

const rehearsals = "testdata/rehearsal"

// TestRehearsals plays what the operator's page describes, every person in a
// folder of their own. The first ceremony comes first; all others start from
// what it left behind. Nothing that any command wrote may hold a secret.
func TestRehearsals(t *testing.T) {
	heard := &transcript{T: t, text: new(safeText), secrets: new(safeText)}
	kept := t.TempDir()
	params := testscript.Params{
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"person": newPerson,
			"image":  writeImage,
			"keep": func(ts *testscript.TestScript, _ bool, _ []string) {
				ts.Check(copyTree(kept, ts.Getenv("WORK")))
			},
		},
		Setup: func(env *testscript.Env) error {
			env.Setenv(rehearsalNow, rehearsalStart)
			env.Defer(func() { heard.collect(env.WorkDir) })
			return copyTree(env.WorkDir, kept) // nothing yet for the first
		},
	}
	first := filepath.Join(rehearsals, "ceremony.txt")
	all, err := filepath.Glob(filepath.Join(rehearsals, "*.txt"))
	if err != nil {
		t.Fatal(err)
	}
	rest := slices.DeleteFunc(all, func(file string) bool { return file == first })
	for _, files := range [][]string{{first}, rest} {
		params.Files = files
		heard.Run("", func(t testscript.T) { testscript.RunT(t, params) })
	}
	heard.check()
}

// copyTree copies regular files with their permissions; private keys are
// private in the copy as well.
func copyTree(to, from string) error {
	return filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, name)
		if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
			return err
		}
		return os.WriteFile(target, data, info.Mode().Perm())
	})
}

// newPerson makes folders, each with a passphrase that nobody else has.
func newPerson(ts *testscript.TestScript, _ bool, names []string) {
	for _, name := range names {
		dir := ts.MkAbs(name)
		ts.Check(os.MkdirAll(dir, 0o700))
		ts.Check(os.WriteFile(filepath.Join(dir, "pass"), []byte(name+" keeps "+strings.ToLower(rand.Text())+"\n"), 0o600))
	}
}

// writeImage makes a file of 3 MiB. Those whose numbers have the same hundreds differ
// in a few bytes, others in all.
func writeImage(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: image FILE NUMBER")
	}
	number, err := strconv.ParseUint(args[1], 10, 64)
	ts.Check(err)
	data := make([]byte, 3<<20)
	source := mathrand.New(mathrand.NewPCG(number/100, 0))
	for i := range data {
		data[i] = byte(source.Uint32())
	}
	copy(data[1<<20:], "This is number "+args[1])
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), data, 0o600))
}

// transcript is a testing.T that remembers everything the scripts logged.
type transcript struct {
	*testing.T
	text, secrets *safeText
}

// safeText is text that several tests add to at once.
type safeText struct {
	mu    sync.Mutex
	lines []string
}

func (s *safeText) add(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, text)
}

func (t *transcript) Log(args ...any) { t.text.add(fmt.Sprint(args...)); t.T.Log(args...) }
func (t *transcript) Verbose() bool   { return true } // so that nothing is left out
func (t *transcript) Run(name string, f func(testscript.T)) {
	t.T.Run(name, func(sub *testing.T) { f(&transcript{sub, t.text, t.secrets}) })
}

// collect gathers the secrets of a rehearsal when it is over.
func (t *transcript) collect(dir string) {
	passes, err := filepath.Glob(filepath.Join(dir, "*", "pass"))
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for _, file := range passes {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		words = append(words, strings.TrimSpace(string(text)))
		t.secrets.add(strings.TrimSpace(string(text)))
	}
	keys, err := filepath.Glob(filepath.Join(dir, "*", "*.key"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range keys {
		for _, secret := range append(words, "") {
			key, err := keyfile.Read(file, func() (keyfile.Passphrase, error) { return keyfile.NewPassphrase([]byte(secret)), nil })
			if err == nil {
				t.keySecrets(key)
				break
			}
		}
	}
}

func (t *transcript) keySecrets(key ed25519.PrivateKey) {
	seed := key.Seed()
	t.secrets.add(string(seed))
	t.secrets.add(hex.EncodeToString(seed))
	t.secrets.add(fmt.Sprint(seed))
	// As it stands inside the base64 of a PKCS #8 PEM, after 16 bytes of DER.
	t.secrets.add(base64.StdEncoding.EncodeToString(append(make([]byte, 16), seed...))[24:60])
	t.secrets.add(base64.StdEncoding.EncodeToString(seed)[:40])
}

func (t *transcript) check() {
	if len(t.secrets.lines) < 100 || len(t.text.lines) == 0 {
		t.Errorf("%d secrets and %d logs: nothing was proven", len(t.secrets.lines), len(t.text.lines))
	}
	all := strings.Join(t.text.lines, "\n")
	for _, secret := range t.secrets.lines {
		if strings.Contains(all, secret) {
			t.Errorf("a secret was shown: %q", secret)
		}
	}
}

const page = "../../docs/keys.md"

// TestPageIsRehearsed: what the operator's page tells people to type is what the
// rehearsals ran, and every rehearsal is on the page.
func TestPageIsRehearsed(t *testing.T) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	ran := map[string]bool{}
	files, err := filepath.Glob(filepath.Join(rehearsals, "*.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if !strings.Contains(string(text), "`"+strings.TrimSuffix(filepath.Base(file), ".txt")+"`") {
			t.Errorf("the page does not mention the rehearsal %s", filepath.Base(file))
		}
		script, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(script)) {
			if _, command, ok := strings.Cut(line, "exec "); ok {
				ran[bare(command)] = true
			}
		}
	}
	shown := commandsOf(string(text))
	if len(shown) < 20 {
		t.Errorf("only %d commands found on the page", len(shown))
	}
	for _, command := range shown {
		if !ran[bare(command)] {
			t.Errorf("no rehearsal runs: %s", command)
		}
	}
}

// notTyped is what only scripts need, as nobody sits at a terminal.
var notTyped = regexp.MustCompile(` --passphrase-file \S+| --yes\b|\s+#.*$`)

func bare(command string) string {
	return strings.Join(strings.Fields(notTyped.ReplaceAllString(command, "")), " ")
}

// commandsOf returns our commands in the page's blocks of shell, with continued
// lines joined.
func commandsOf(page string) (commands []string) {
	for i, block := range strings.Split(page, "```") {
		body, isShell := strings.CutPrefix(block, "sh\n")
		if i%2 == 0 || !isShell {
			continue
		}
		for line := range strings.Lines(strings.ReplaceAll(body, "\\\n", " ")) {
			if strings.HasPrefix(line, "phase") {
				commands = append(commands, line)
			}
		}
	}
	return commands
}
