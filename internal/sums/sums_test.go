package sums

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/nettest"
)

func key(seed byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
}

func pub(k ed25519.PrivateKey) ed25519.PublicKey { return k.Public().(ed25519.PublicKey) }

func write(t *testing.T, dir, name string, data []byte) {
	t.Helper()
	path := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// signedFolder is a folder with two files, the list and everything that
// a stranger needs to check it.
func signedFolder(t *testing.T, k ed25519.PrivateKey) string {
	t.Helper()
	dir := t.TempDir()
	write(t, dir, "phase.img", []byte("an image"))
	write(t, dir, "vm/phase.qcow2", []byte("another"))
	list, err := Folder(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := list.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	sigs, err := Sign(raw, k, time.Unix(1700000000, 0))
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, Name, raw)
	write(t, dir, SigName, sigs.Sig)
	write(t, dir, MinisigName, sigs.Minisig)
	return dir
}

// TestOutsideJudges has coreutils, OpenSSL and minisign check what we write, and
// refuse what was changed.
func TestOutsideJudges(t *testing.T) {
	for _, tool := range []string{"sha256sum", "openssl", "minisign"} {
		nettest.Tool(t, tool)
	}
	dir, keys := signedFolder(t, key(1)), t.TempDir()
	p, err := PEM(pub(key(1)))
	if err != nil {
		t.Fatal(err)
	}
	write(t, keys, "media.pem", p)
	write(t, keys, "media.minisign", Minisign(pub(key(1))))
	write(t, keys, "other.minisign", Minisign(pub(key(2))))
	p, _ = PEM(pub(key(2)))
	write(t, keys, "other.pem", p)
	run := func(args ...string) error {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		t.Logf("%s: %v\n%s", strings.Join(args, " "), err, out)
		return err
	}
	judge := func(name string) map[string]error {
		return map[string]error{
			"openssl": run("openssl", "pkeyutl", "-verify", "-pubin", "-inkey", filepath.Join(keys, name+".pem"),
				"-rawin", "-in", Name, "-sigfile", SigName),
			"minisign": run("minisign", "-V", "-p", filepath.Join(keys, name+".minisign"), "-m", Name),
		}
	}
	for tool, err := range judge("media") {
		if err != nil {
			t.Errorf("%s refuses our signature: %v", tool, err)
		}
	}
	if err := run("sha256sum", "--strict", "-c", Name); err != nil {
		t.Errorf("sha256sum refuses our list: %v", err)
	}
	for tool, err := range judge("other") {
		if err == nil {
			t.Errorf("%s accepts another key", tool)
		}
	}
	list, _ := os.ReadFile(filepath.Join(dir, Name))
	write(t, dir, Name, append([]byte("0"), list[1:]...))
	for tool, err := range judge("media") {
		if err == nil {
			t.Errorf("%s accepts another list", tool)
		}
	}
	if err := run("sha256sum", "--strict", "-c", Name); err == nil && list[0] != '0' {
		t.Error("sha256sum accepts another digest")
	}
}

func TestFolder(t *testing.T) {
	dir := signedFolder(t, key(1))
	list, err := OpenFolder(dir, pub(key(1)))
	if err != nil || len(list) != 2 {
		t.Fatal(list, err)
	}
	var told string
	if err := list.Check(dir, func(name string, done, size int64) error { told += name; return nil }); err != nil || told == "" {
		t.Error(told, err)
	}
	stop := errors.New("stop")
	if err := list.Check(dir, func(string, int64, int64) error { return stop }); !errors.Is(err, stop) {
		t.Error(err)
	}
	if d, ok := list.Find("phase.img"); !ok || d != blob.Of([]byte("an image")) || len(list.Named(d)) != 1 {
		t.Error(d, ok)
	}
	for name, tt := range map[string]struct {
		do   func(dir string) error
		want error
	}{
		"missing": {func(dir string) error { return os.Remove(filepath.Join(dir, "phase.img")) }, ErrMissing},
		"changed": {func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "phase.img"), []byte("an imagE"), 0o644)
		}, ErrDiffers},
		"one more": {func(dir string) error { return os.WriteFile(filepath.Join(dir, "more.exe"), nil, 0o644) }, ErrUnlisted},
		"no signature": {func(dir string) error {
			return errors.Join(os.Remove(filepath.Join(dir, SigName)), os.Remove(filepath.Join(dir, MinisigName)))
		}, ErrSigFile},
		"long signature": {func(dir string) error { return os.WriteFile(filepath.Join(dir, SigName), make([]byte, 65), 0o644) }, ErrSigFile},
		"huge signature": {func(dir string) error { return os.WriteFile(filepath.Join(dir, SigName), make([]byte, 1<<16), 0o644) }, ErrSigFile},
		"zero signature": {func(dir string) error { return os.WriteFile(filepath.Join(dir, SigName), make([]byte, 64), 0o644) }, ErrSignature},
		"list changed": {func(dir string) error {
			raw, _ := os.ReadFile(filepath.Join(dir, Name))
			return os.WriteFile(filepath.Join(dir, Name), append(raw, raw...), 0o644)
		}, ErrSignature},
		"only minisign, changed": {func(dir string) error {
			os.Remove(filepath.Join(dir, SigName))
			raw, _ := os.ReadFile(filepath.Join(dir, MinisigName))
			return os.WriteFile(filepath.Join(dir, MinisigName), bytes.Replace(raw, []byte("timestamp:1"), []byte("timestamp:2"), 1), 0o644)
		}, ErrSignature},
		"huge list": {func(dir string) error { return os.WriteFile(filepath.Join(dir, Name), make([]byte, MaxBytes+1), 0o644) }, ErrList},
	} {
		dir := signedFolder(t, key(1))
		if err := tt.do(dir); err != nil {
			t.Fatal(err)
		}
		list, err := OpenFolder(dir, pub(key(1)))
		if err == nil {
			err = list.Check(dir, nil)
		}
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
		var e *Error
		if errors.As(err, &e) && (e.Hint() == "" || e.Code() == "") {
			t.Errorf("%s: no hint or code", name)
		}
	}
	if _, err := OpenFolder(dir, pub(key(2))); !errors.Is(err, ErrSignature) {
		t.Error(err)
	}
	os.Remove(filepath.Join(dir, SigName))
	if _, err := OpenFolder(dir, pub(key(2))); !errors.Is(err, ErrOtherKey) {
		t.Error(err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if _, err := Folder(dir, nil); err == nil {
		t.Error("a link was signed")
	}
	if _, err := Open(nil, make([]byte, 64), make(ed25519.PublicKey, 32)); !errors.Is(err, ErrKey) {
		t.Error("a weak key counts:", err)
	}
}

func TestParseRefuses(t *testing.T) {
	d := blob.Of(nil).Hex()
	for name, text := range map[string]string{
		"empty": "", "no newline": d + "  a", "one space": d + " a\n", "binary": d + " *a\n", "upper case": strings.ToUpper(d) + "  a\n",
		"escaped": `\` + d + "  a\n", "cut digest": d[1:] + "  a\n", "CR": d + "  a\r\n", "blank line": d + "  a\n\n",
		"up": d + "  ../a\n", "root": d + "  /a\n", "dot": d + "  ./a\n", "hidden": d + "  .a\n", "option": d + "  -a\n", "backslash": d + "  a\\b\n",
		"drive": d + "  c:a\n", "space": d + "  a b\n", "empty part": d + "  a//b\n", "device": d + "  aux.img\n", "end dot": d + "  a.\n",
		"twice": d + "  a\n" + d + "  a\n", "order": d + "  b\n" + d + "  a\n", "case": d + "  A\n" + d + "  a\n",
		"deep": d + "  " + strings.Repeat("a/", 9) + "a\n", "long": d + "  " + strings.Repeat("a", 300) + "\n",
		"NUL": d + "  a\x00\n", "escape sequence": d + "  a\x1b[2J\n", "not UTF-8": d + "  \xff\n",
		"too large": strings.Repeat(d+"  a\n", MaxBytes/len(d)),
	} {
		if list, err := Parse([]byte(text)); !errors.Is(err, ErrList) {
			t.Errorf("%s: %v, %v", name, list, err)
		}
	}
	if _, err := (List{{"../a", blob.Of(nil)}}).Bytes(); !errors.Is(err, ErrList) {
		t.Error("wrote a bad name:", err)
	}
	if _, err := Sign([]byte("what machines boot"), key(1), time.Unix(0, 0)); !errors.Is(err, ErrList) {
		t.Error("signed what is no list:", err)
	}
}

func TestMinisigRefuses(t *testing.T) {
	list := []byte(blob.Of(nil).Hex() + "  a\n")
	s, err := Sign(list, key(1), time.Unix(5, 0))
	if err != nil {
		t.Fatal(err)
	}
	good := string(s.Minisig)
	if _, err := Open(list, []byte(strings.ReplaceAll(good, "\n", "\r\n")), pub(key(1))); err != nil {
		t.Error("line ends of Windows:", err)
	}
	lines := strings.Split(good, "\n")
	for name, text := range map[string]string{
		"empty": "", "three lines": strings.Join(lines[:3], "\n"), "five lines": good + "more\n", "no comment": strings.Replace(good, "untrusted", "", 1),
		"prehashed": strings.Replace(good, "\nRW", "\nRU", 1), "not base64": strings.Replace(good, "\nRW", "\n!W", 1),
		"no trusted comment": strings.Replace(good, "\ntrusted", "\nTrusted", 1), "cut": good[:len(good)-5], "huge": good + strings.Repeat("x", maxSigFile),
	} {
		if _, err := Open(list, []byte(text), pub(key(1))); !errors.Is(err, ErrSigFile) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestKeys(t *testing.T) {
	want := pub(key(1))
	p, err := PEM(want)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"PEM": p, "minisign": Minisign(want)} {
		if got, err := ParseKey(data); err != nil || !got.Equal(want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	weak, _ := PEM(make(ed25519.PublicKey, 32))
	other := Minisign(pub(key(2)))
	for name, data := range map[string][]byte{
		"empty": nil, "two": append(p, p...), "weak": weak, "weak minisign": Minisign(make(ed25519.PublicKey, 32)), "huge": make([]byte, 1<<16),
		"private":  []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
		"not ours": append(bytes.Clone(other[:len(other)-8]), "AAAAAAA\n"...), "one line": []byte(untrusted + "\n"), "base64": []byte(untrusted + "\nxx\n"),
		"X25519": []byte("-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VuAyEAPOxFzqvqOkvjvl5uqp8H6vkjUnTuh8wyKXfgXVvUGGE=\n-----END PUBLIC KEY-----\n"),
	} {
		if _, err := ParseKey(data); !errors.Is(err, ErrKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := Parse(data)
		if err != nil {
			return
		}
		if back, err := list.Bytes(); err != nil || !bytes.Equal(back, data) {
			t.Errorf("%q became %q, %v", data, back, err)
		}
		for _, e := range list {
			if !filepath.IsLocal(filepath.FromSlash(e.Name)) {
				t.Errorf("%q leads out of the folder", e.Name)
			}
		}
	})
}

func FuzzMinisig(f *testing.F) {
	list := []byte(blob.Of(nil).Hex() + "  a\n")
	good, err := Sign(list, key(1), time.Unix(5, 0))
	if err != nil {
		f.Fatal(err)
	}
	m, err := parseMinisig(good.Minisig)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		if _, err := Open(list, file, pub(key(1))); err == nil && !bytes.Equal(file, good.Sig) {
			if got, _ := parseMinisig(file); !bytes.Equal(got.sig, m.sig) {
				t.Errorf("forged: %q", file)
			}
		}
	})
}

func FuzzParseKey(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		if key, err := ParseKey(data); err == nil {
			if again, err := ParseKey(Minisign(key)); err != nil || !again.Equal(key) {
				t.Error(err)
			}
		}
	})
}
