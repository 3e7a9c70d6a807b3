package keyfile

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"filippo.io/age"
	"filippo.io/age/armor"

	"github.com/phasebased/phase/dsse"
	"github.com/phasebased/phase/internal/refusal"
)

const secret = "correct horse battery staple"

// quick is for tests: 2^4 instead of 2^18.
var quick = Files{WorkFactor: 4}

func testKey(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte("phase test key " + name))
	return ed25519.NewKeyFromSeed(seed[:])
}

func public(key ed25519.PrivateKey) ed25519.PublicKey { return key.Public().(ed25519.PublicKey) }

func ask(words string) func() (Passphrase, error) {
	return func() (Passphrase, error) { return pass(words), nil }
}

// noAsk fails the test if a passphrase is asked for.
func noAsk(t *testing.T) func() (Passphrase, error) {
	return func() (Passphrase, error) {
		t.Error("asked for a passphrase")
		return Passphrase{}, errors.New("asked")
	}
}

func pass(words string) Passphrase { return NewPassphrase([]byte(words)) }

func put(t *testing.T, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func load(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestWriteAndRead(t *testing.T) {
	key := testKey("a")
	for name, pass := range map[string]Passphrase{"encrypted": pass(secret), "bare": {}} {
		path := filepath.Join(t.TempDir(), "a.key")
		if err := quick.Write(path, key, pass); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: mode %v, %v", name, info.Mode(), err)
		}
		if err := Check(path); err != nil {
			t.Errorf("%s: Check says %v", name, err)
		}
		asker := noAsk(t)
		if !pass.IsZero() {
			asker = ask(secret)
		}
		back, err := Read(path, asker)
		if err != nil || !back.Equal(key) {
			t.Errorf("%s: read back: %v", name, err)
		}
		if !pass.IsZero() && containsKey(load(t, path), key) {
			t.Errorf("%s: the file shows the key", name)
		}
	}
}

// containsKey looks for the key in the forms in which it might slip out.
func containsKey(data []byte, key ed25519.PrivateKey) bool {
	seed := key.Seed()
	for _, form := range []string{string(seed), hex.EncodeToString(seed), strings.ToUpper(hex.EncodeToString(seed)),
		base64.StdEncoding.EncodeToString(seed), fmt.Sprint(seed), fmt.Sprint([]byte(key))} {
		if bytes.Contains(data, []byte(form)) {
			return true
		}
	}
	return false
}

// TestAgeOpensIt: a person with age and OpenSSL needs nothing of ours.
func TestAgeOpensIt(t *testing.T) {
	path, key := filepath.Join(t.TempDir(), "a.key"), testKey("a")
	if err := quick.Write(path, key, pass(secret)); err != nil {
		t.Fatal(err)
	}
	identity, err := age.NewScryptIdentity(secret)
	if err != nil {
		t.Fatal(err)
	}
	body, err := age.Decrypt(armor.NewReader(bytes.NewReader(load(t, path))), identity)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	block, rest := pem.Decode(plain)
	if block == nil || len(rest) != 0 {
		t.Fatalf("not one PEM block: %q", rest)
	}
	if got, err := x509.ParsePKCS8PrivateKey(block.Bytes); err != nil || !key.Equal(got) {
		t.Errorf("other key, %v", err)
	}
}

func TestDefaultWorkFactor(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 256 MiB and some seconds")
	}
	path := filepath.Join(t.TempDir(), "a.key")
	if err := Write(path, testKey("a"), pass(secret)); err != nil {
		t.Fatal(err)
	}
	header, err := io.ReadAll(armor.NewReader(bytes.NewReader(load(t, path))))
	if err != nil || !bytes.Contains(header, []byte(" 18\n")) {
		t.Errorf("the header does not ask for 2^18: %.80q, %v", header, err)
	}
}

func TestNothingIsOverwritten(t *testing.T) {
	dir := t.TempDir()
	elsewhere := filepath.Join(dir, "elsewhere")
	for name, prepare := range map[string]func(path string) error{
		"file":          func(path string) error { return os.WriteFile(path, []byte("mine"), 0o600) },
		"link":          func(path string) error { return os.Symlink(dir, path) },
		"dangling link": func(path string) error { return os.Symlink(elsewhere, path) },
		"directory":     func(path string) error { return os.Mkdir(path, 0o700) },
	} {
		path := filepath.Join(t.TempDir(), "a.key")
		if err := prepare(path); err != nil {
			t.Fatal(err)
		}
		before, _ := os.Lstat(path)
		if err := quick.Write(path, testKey("a"), pass(secret)); !errors.Is(err, ErrExists) {
			t.Errorf("%s: private: %v", name, err)
		}
		if err := WritePublic(path, public(testKey("a"))); !errors.Is(err, ErrExists) {
			t.Errorf("%s: public: %v", name, err)
		}
		if after, _ := os.Lstat(path); after.Mode() != before.Mode() || after.Size() != before.Size() {
			t.Errorf("%s: changed from %v to %v", name, before, after)
		}
	}
	if _, err := os.Lstat(elsewhere); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the link was followed: %v", err)
	}
}

// TestPrivateFromTheFirstByte: whatever the umask allows, and already while
// the file is being written.
func TestPrivateFromTheFirstByte(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	dir := t.TempDir()
	path := filepath.Join(dir, "a.key")
	if err := quick.Write(path, testKey("a"), Passphrase{}); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestWriteRefuses(t *testing.T) {
	dir := t.TempDir()
	for name, tt := range map[string]struct {
		key  ed25519.PrivateKey
		pass Passphrase
		want error
	}{
		"empty passphrase": {testKey("a"), pass(""), ErrNoPassphrase},
		"long passphrase":  {testKey("a"), pass(strings.Repeat("x", MaxPassphrase+1)), ErrLongPassphrase},
		"no key":           {nil, pass(secret), ErrKeyType},
	} {
		path := filepath.Join(dir, "x.key")
		if err := quick.Write(path, tt.key, tt.pass); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: left a file", name)
		}
	}
	if err := quick.Write(filepath.Join(dir, "none", "x.key"), testKey("a"), Passphrase{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing folder: %v", err)
	}
}

// sealed is an armored age file around plain.
func sealed(t *testing.T, plain []byte, workFactor int) []byte {
	t.Helper()
	data, err := encrypt(plain, pass(secret), workFactor)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func pemOf(t *testing.T, blockType string, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: blockType, Bytes: der})
}

// forRecipient is an age file that a passphrase does not open.
func forRecipient(t *testing.T, plain []byte) []byte {
	t.Helper()
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w, err := age.Encrypt(&out, identity.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// withWork rewrites the work factor in the header of an unarmored age file.
func withWork(t *testing.T, data []byte, factor string) []byte {
	t.Helper()
	plain, err := io.ReadAll(armor.NewReader(bytes.NewReader(data)))
	if err != nil {
		t.Fatal(err)
	}
	changed := bytes.Replace(plain, []byte(" 4\n"), []byte(" "+factor+"\n"), 1)
	if bytes.Equal(changed, plain) {
		t.Fatal("no work factor found")
	}
	return changed
}

func TestReadRefuses(t *testing.T) {
	bare := pemOf(t, "PRIVATE KEY", testKey("a"))
	good := sealed(t, bare, 4)
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	flip := func(data []byte, at int) []byte {
		data = bytes.Clone(data)
		data[at] ^= 0x01
		return data
	}
	raw := withWork(t, good, "4 ")
	raw = bytes.Replace(raw, []byte(" 4 \n"), []byte(" 4\n"), 1)
	tests := []struct {
		name string
		data []byte
		ask  func() (Passphrase, error)
		want error
	}{
		{"wrong passphrase", good, ask("wrong"), ErrPassphrase},
		{"no passphrase", good, nil, ErrNeedPassphrase},
		{"empty passphrase", good, ask(""), ErrNeedPassphrase},
		{"empty file", nil, ask(secret), ErrNotKey},
		{"text", []byte("hello\n"), ask(secret), ErrNotKey},
		{"cut in the header", good[:60], ask(secret), ErrDamaged},
		{"cut in the body", good[:len(good)-60], ask(secret), ErrDamaged},
		{"without its last line", good[:len(good)-len(armor.Footer)-1], ask(secret), ErrDamaged},
		{"something behind", append(bytes.Clone(good), "more"...), ask(secret), ErrDamaged},
		{"flipped bit in the payload", flip(raw, len(raw)-3), ask(secret), ErrDamaged},
		{"unarmored, cut", raw[:len(raw)-1], ask(secret), ErrDamaged},
		{"for a recipient", forRecipient(t, bare), ask(secret), ErrRecipient},
		{"too much work", withWork(t, good, "21"), ask(secret), ErrWorkFactor},
		{"work beyond counting", withWork(t, good, strings.Repeat("9", 30)), ask(secret), ErrWorkFactor},
		{"work that is no number", withWork(t, good, "x"), ask(secret), ErrDamaged},
		{"too large", bytes.Repeat([]byte("\n"), maxFileBytes+1), ask(secret), ErrNotKey},
		{"encrypted text", sealed(t, []byte("hello"), 4), ask(secret), ErrNotKey},
		{"encrypted twice", sealed(t, good, 4), ask(secret), ErrNotKey},
		{"encrypted elliptic curve key", sealed(t, pemOf(t, "PRIVATE KEY", curve), 4), ask(secret), ErrKeyType},
		{"elliptic curve key", pemOf(t, "PRIVATE KEY", curve), nil, ErrKeyType},
		{"OpenSSH key", pemOf(t, "OPENSSH PRIVATE KEY", testKey("a")), nil, ErrKeyType},
		{"encrypted PKCS #8", pemOf(t, "ENCRYPTED PRIVATE KEY", testKey("a")), nil, ErrKeyType},
		{"public key in PEM", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte("x")}), nil, ErrPublicKey},
		{"the .pub file", publicFile(t, testKey("a")), nil, ErrPublicKey},
		{"bare, cut", bare[:70], nil, ErrDamaged},
		{"bare, not PKCS #8", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")}), nil, ErrDamaged},
		{"bare, with headers", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Headers: map[string]string{"a": "b"}, Bytes: []byte("x")}), nil, ErrNotKey},
		{"two keys", append(bytes.Clone(bare), bare...), nil, ErrNotKey},
	}
	for _, tt := range tests {
		key, err := Read(put(t, tt.data), tt.ask)
		if key != nil || !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		}
		var typed *Error
		if !errors.As(err, &typed) || typed.Hint() == "" {
			t.Errorf("%s: no hint in %v", tt.name, err)
		}
		if err != nil && (containsKey([]byte(err.Error()), testKey("a")) || strings.Contains(err.Error(), secret)) {
			t.Errorf("%s: the error shows a secret: %v", tt.name, err)
		}
	}
	for name, path := range map[string]string{"missing": filepath.Join(t.TempDir(), "none"), "directory": t.TempDir()} {
		if _, err := Read(path, nil); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestReadForeign: what age and OpenSSL write is read.
func TestReadForeign(t *testing.T) {
	bare := pemOf(t, "PRIVATE KEY", testKey("a"))
	unarmored, err := io.ReadAll(armor.NewReader(bytes.NewReader(sealed(t, bare, 4))))
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"unarmored":   unarmored,
		"carriage":    bytes.ReplaceAll(sealed(t, bare, 4), []byte("\n"), []byte("\r\n")),
		"blank lines": append(append([]byte("\n"), bare...), "\n\n"...),
	} {
		if key, err := Read(put(t, data), ask(secret)); err != nil || !key.Equal(testKey("a")) {
			t.Errorf("%s: %v", name, err)
		}
	}
	refused := errors.New("the person left")
	if _, err := Read(put(t, unarmored), func() (Passphrase, error) { return Passphrase{}, refused }); !errors.Is(err, refused) {
		t.Errorf("the asker's error is lost: %v", err)
	}
}

func TestWarnings(t *testing.T) {
	var said []string
	f := Files{WorkFactor: 4, Warn: func(s string) { said = append(said, s) }}
	bare := pemOf(t, "PRIVATE KEY", testKey("a"))
	for _, tt := range []struct {
		name  string
		data  []byte
		mode  fs.FileMode
		warns bool
	}{
		{"bare, for everybody", bare, 0o644, true},
		{"bare, for the group", bare, 0o640, true},
		{"bare, private", bare, 0o600, false},
		{"encrypted, for everybody", sealed(t, bare, 4), 0o644, false},
	} {
		said = nil
		path := put(t, tt.data)
		if err := os.Chmod(path, tt.mode); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Read(path, ask(secret)); err != nil {
			t.Fatal(err)
		}
		if (len(said) > 0) != tt.warns {
			t.Errorf("%s: said %q", tt.name, said)
		}
	}
	said = nil
	path := put(t, []byte(secret+"\n"))
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	pass, err := f.PassphraseFile(path)
	if err != nil || string(pass.bytes()) != secret || len(said) != 1 || strings.Contains(said[0], secret) {
		t.Errorf("%v, said %q", err, said)
	}
}

func TestReadPassphrase(t *testing.T) {
	for in, want := range map[string]string{"a b": "a b", "a\n": "a", "a\r\n": "a", " a \n\n": " a ", "é\n": "é"} {
		if got, err := ReadPassphrase(strings.NewReader(in), "stdin"); err != nil || string(got.bytes()) != want {
			t.Errorf("%q: %q, %v", in, got.bytes(), err)
		}
	}
	for in, want := range map[string]error{
		"": ErrNoPassphrase, "\n": ErrNoPassphrase, "\nx": ErrNoPassphrase, "a\nb\n": ErrManyLines,
		strings.Repeat("x", MaxPassphrase+1): ErrLongPassphrase, strings.Repeat("x", 1<<20): ErrLongPassphrase,
	} {
		if _, err := ReadPassphrase(strings.NewReader(in), "stdin"); !errors.Is(err, want) {
			t.Errorf("%.10q: %v", in, err)
		}
	}
}

// TestPassphraseIsNeverPrinted tries what a careless line of code would do.
func TestPassphraseIsNeverPrinted(t *testing.T) {
	pass := pass(secret)
	raw := pass.bytes()
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "pass", pass)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "pass", pass, "in", struct{ P Passphrase }{pass})
	encoded, err := json.Marshal(map[string]any{"p": pass, "s": struct{ P Passphrase }{pass}})
	if err != nil {
		t.Fatal(err)
	}
	all := log.String() + string(encoded)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%b", "%c", "%U", "%w"} {
		all += fmt.Sprintf(verb, pass) + fmt.Sprintf(verb, &pass) + fmt.Sprintf(verb, []Passphrase{pass}) + fmt.Sprintf(verb, struct{ P Passphrase }{pass}) +
			fmt.Sprintf(verb, struct{ p Passphrase }{pass}) + fmt.Sprintf(verb, &struct{ p *Passphrase }{&pass})
	}
	for _, form := range []string{secret, hex.EncodeToString(raw), base64.StdEncoding.EncodeToString(raw), "99 111 114", "0x63"} {
		if strings.Contains(strings.ToLower(all), strings.ToLower(form)) {
			t.Errorf("shows %q in %s", form, all)
		}
	}
	copied := pass
	pass.Wipe()
	if bytes.ContainsFunc(copied.bytes(), func(r rune) bool { return r != 0 }) {
		t.Error("Wipe left something")
	}
}

func publicFile(t *testing.T, key ed25519.PrivateKey) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a.pub")
	if err := WritePublic(path, public(key)); err != nil {
		t.Fatal(err)
	}
	return load(t, path)
}

func TestPublic(t *testing.T) {
	pub := public(testKey("a"))
	line := publicFile(t, testKey("a"))
	want := `{"keyid":"` + dsse.KeyID(pub) + `","keytype":"ed25519","keyval":{"public":"` + hex.EncodeToString(pub) + `"},"scheme":"ed25519"}` + "\n"
	if string(line) != want {
		t.Errorf("wrote %s", line)
	}
	for name, data := range map[string][]byte{
		"own form":       line,
		"without an id":  []byte(`{"keytype":"ed25519","scheme":"ed25519","keyval":{"public":"` + hex.EncodeToString(pub) + `"}}`),
		"hexadecimal":    []byte(hex.EncodeToString(pub) + "\n"),
		"upper case":     []byte(strings.ToUpper(hex.EncodeToString(pub))),
		"base64":         []byte(base64.StdEncoding.EncodeToString(pub) + "\r\n"),
		"32 raw bytes":   pub,
		"white space in": []byte("{ \"keytype\": \"ed25519\", \"scheme\": \"ed25519\",\n \"keyval\": {\"public\": \"" + hex.EncodeToString(pub) + "\"} }\n"),
	} {
		if got, err := ReadPublic(put(t, data)); err != nil || !got.Equal(pub) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestReadPublicRefuses(t *testing.T) {
	pub := public(testKey("a"))
	digits := hex.EncodeToString(pub)
	object := func(id, kind, scheme, digits string) []byte {
		return []byte(`{"keyid":"` + id + `","keytype":"` + kind + `","keyval":{"public":"` + digits + `"},"scheme":"` + scheme + `"}`)
	}
	bare := pemOf(t, "PRIVATE KEY", testKey("a"))
	for name, tt := range map[string]struct {
		data []byte
		want error
	}{
		"empty":              {nil, ErrNotPublic},
		"text":               {[]byte("hello"), ErrNotPublic},
		"63 digits":          {[]byte(digits[:63]), ErrNotPublic},
		"URL alphabet":       {[]byte(strings.Repeat("-", 43) + "="), ErrNotPublic},
		"two keys":           {[]byte(digits + "\n" + digits), ErrNotPublic},
		"private key":        {bare, ErrPrivateKey},
		"encrypted":          {sealed(t, bare, 4), ErrPrivateKey},
		"wrong id":           {object(dsse.KeyID(public(testKey("b"))), "ed25519", "ed25519", digits), ErrKeyID},
		"other type":         {object(dsse.KeyID(pub), "rsa", "ed25519", digits), ErrNotPublic},
		"other scheme":       {object(dsse.KeyID(pub), "ed25519", "x", digits), ErrNotPublic},
		"upper-case object":  {object(dsse.KeyID(pub), "ed25519", "ed25519", strings.ToUpper(digits)), ErrNotPublic},
		"trailing bytes":     {append(publicFile(t, testKey("a")), '{'), ErrNotPublic},
		"unknown member":     {[]byte(`{"x":1,"keytype":"ed25519","keyval":{"public":"` + digits + `"},"scheme":"ed25519"}`), ErrNotPublic},
		"weak, raw":          {make([]byte, 32), ErrWeak},
		"weak, hexadecimal":  {[]byte("01" + strings.Repeat("00", 31)), ErrWeak},
		"not canonical":      {[]byte("f0" + strings.Repeat("ff", 30) + "7f"), ErrWeak},
		"not on the curve":   {[]byte("02" + strings.Repeat("00", 31)), ErrWeak},
		"too large":          {bytes.Repeat([]byte(" "), maxFileBytes+1), ErrNotPublic},
		"public key in PEM":  {pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte("x")}), ErrNotPublic},
		"a root, not a key":  {[]byte(`{"signed":{"keys":{"x":{"keyval":{"public":"` + digits + `"}}}}}`), ErrNotPublic},
		"weak in the object": {object("", "ed25519", "ed25519", "01"+strings.Repeat("00", 31)), ErrWeak},
	} {
		got, err := ReadPublic(put(t, tt.data))
		if got != nil || !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", name, err, tt.want)
		}
		var typed *Error
		if !errors.As(err, &typed) || typed.Hint() == "" {
			t.Errorf("%s: no hint", name)
		}
		if err != nil && containsKey([]byte(err.Error()), testKey("a")) {
			t.Errorf("%s: the error shows the private key", name)
		}
	}
	if err := WritePublic(filepath.Join(t.TempDir(), "x"), make([]byte, 32)); !errors.Is(err, ErrWeak) {
		t.Errorf("wrote a weak key: %v", err)
	}
}

// FuzzPrivate: hostile bytes give a key or a typed reason, in bounded work.
func FuzzPrivate(f *testing.F) {
	f.Add([]byte(pemBegin))
	f.Fuzz(func(t *testing.T, data []byte) {
		if formOf(data) == formAge {
			plain, err := decrypt(data, pass(secret), 4)
			if err != nil {
				return
			}
			data = plain
		}
		key, err := decodePEM(data, formOf(data))
		if (err == nil) != (key != nil) {
			t.Fatalf("key %T with %v", key, err)
		}
		if _, known := err.(*refusal.Reason); err != nil && !known {
			t.Fatalf("no reason: %v", err)
		}
	})
}

// FuzzPublic: what is accepted reads the same after it was written.
func FuzzPublic(f *testing.F) {
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		pub, err := parsePublic(data)
		if err != nil {
			if _, known := err.(*refusal.Reason); !known {
				t.Fatalf("no reason: %v", err)
			}
			return
		}
		again, err := parsePublic([]byte(hex.EncodeToString(pub)))
		if err != nil || !again.Equal(pub) {
			t.Fatalf("%x reads as %x, %v", pub, again, err)
		}
	})
}

// TestCheck: what no passphrase opens is known before one is asked for.
func TestCheck(t *testing.T) {
	dir := t.TempDir()
	key, err := Generate()
	if err != nil {
		t.Fatal(err)
	}
	public := filepath.Join(dir, "a.pub")
	if err := WritePublic(public, key.Public().(ed25519.PublicKey)); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		content string
		want    error
	}{
		"junk": {"junk", ErrNotKey}, "empty": {"", ErrNotKey}, "pem": {"-----BEGIN RSA PRIVATE KEY-----", ErrKeyType},
		"age": {"age-encryption.org/v1\n-> X25519 aa\n", ErrDamaged},
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(tt.content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := Check(path); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := Check(public); !errors.Is(err, ErrPublicKey) {
		t.Errorf("%v", err)
	}
	if err := Check(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

// TestRSA: the keys of Secure Boot, which neither reader takes for the other's.
func TestRSA(t *testing.T) {
	dir := t.TempDir()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	path, other := filepath.Join(dir, "MOK.key"), filepath.Join(dir, "a.key")
	if err := quick.WriteRSA(path, key, pass(secret)); err != nil {
		t.Fatal(err)
	}
	ask := func() (Passphrase, error) { return pass(secret), nil }
	if got, err := quick.ReadRSA(path, ask); err != nil || !got.Equal(key) {
		t.Errorf("%v", err)
	}
	if _, err := quick.Read(path, ask); !errors.Is(err, ErrKeyType) {
		t.Errorf("as Ed25519: %v", err)
	}
	if err := quick.Write(other, testKey("a"), pass(secret)); err != nil {
		t.Fatal(err)
	}
	if _, err := quick.ReadRSA(other, ask); !errors.Is(err, ErrNotRSA) {
		t.Errorf("Ed25519 as RSA: %v", err)
	}
	if err := quick.WriteRSA(path, key, pass(secret)); !errors.Is(err, ErrExists) {
		t.Errorf("over another: %v", err)
	}
	if err := quick.WriteRSA(filepath.Join(dir, "none"), nil, pass(secret)); !errors.Is(err, ErrNotRSA) {
		t.Errorf("no key: %v", err)
	}
}
