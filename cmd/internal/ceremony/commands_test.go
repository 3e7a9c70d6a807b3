package ceremony

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/phasebased/phase/internal/keyfile"
	"github.com/phasebased/phase/internal/release"
	"github.com/phasebased/phase/manifest"
)

// call runs one command line in the current folder.
func call(t *testing.T, at time.Time, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	root := &cobra.Command{Use: "release", SilenceErrors: true, SilenceUsage: true}
	root.AddCommand(Commands(Config{Now: func() time.Time { return at }, Keys: keyfile.Files{WorkFactor: 4}})...)
	var out, errors bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&errors)
	root.SetIn(strings.NewReader(""))
	root.SetArgs(args)
	err = root.ExecuteContext(t.Context())
	return out.String(), errors.String(), err
}

// must runs a command line that has to succeed. Arguments are separated by
// spaces.
func must(t *testing.T, line string) string {
	t.Helper()
	stdout, _, err := call(t, now, strings.Fields(line)...)
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return stdout
}

// settle goes to a folder with plain keys of everybody, a complete root and a
// complete release 5 with its pointer.
func settle(t *testing.T) {
	t.Helper()
	t.Chdir(t.TempDir())
	for _, name := range []string{"r1", "r2", "r3", "t1", "t2", "t3", "ts"} {
		must(t, "keygen --plain "+name)
	}
	must(t, "root init --root-key r1.pub --root-key r2.pub --root-key r3.pub --targets-key t1.pub --targets-key t2.pub --targets-key t3.pub --timestamp-key ts.pub")
	must(t, "root sign 1.root.json --key r1.key --yes")
	must(t, "root sign 1.root.json --key r2.key --yes")
	for _, name := range []string{"kernel", "initrd"} {
		put(t, name, []byte(name))
	}
	must(t, "manifest create --number 5 --kernel kernel --initramfs initrd --dtb board.dtb=kernel --url kernel=https://a.example/k --url board.dtb=https://a.example/d")
	must(t, "manifest sign manifest.json --root 1.root.json --key t1.key --yes")
	must(t, "manifest sign manifest.json --root 1.root.json --key t2.key --yes")
	must(t, "pointer sign --manifest manifest.json --root 1.root.json --key ts.key --yes")
}

func put(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestWrongUsage(t *testing.T) {
	settle(t)
	for line, want := range map[string]string{
		"keygen":                               "the name of the key is missing",
		"keygen a b":                           "unexpected argument",
		"keygen --plain --passphrase-file x a": "exclude each other",
		"public":                               "the private key is missing",
		"public r1":                            "does not end in .key",
		"public r1.pub":                        "does not end in .key",
		"root inti":                            "unknown command",
		"root init":                            "a key for the role",
		"root init --root-key r1.pub x":        "unexpected argument",
		"root init --root-key r1.pub --targets-key t1.pub --timestamp-key ts.pub --expires 1000d": "lives at most 731 days",
		"root add-key": "the root to change is missing",
		"root add-key --in 1.root.json --key r1.pub":                                         "choose root, targets",
		"root add-key --in 1.root.json --role boss --key r1.pub":                             "choose root, targets",
		"root add-key --in 1.root.json --role root":                                          "the key is missing",
		"root remove-key --in 1.root.json":                                                   "the key is missing",
		"root rotate --in 1.root.json --old r1.pub":                                          "the key is missing",
		"root set-threshold --in 1.root.json --role root":                                    "the number of keys is missing",
		"root set-channel --in 1.root.json --channel x --remove":                             "--channel",
		"root set-channel --in 1.root.json --channel nightly":                                "give the keys with --key",
		"root reset-floor --in 1.root.json --channel stable":                                 "the last genuine release is missing",
		"root reset-floor --in 1.root.json --channel x --release 1":                          "--channel",
		"root renew --in 1.root.json --expires yesterday":                                    "--expires",
		"root renew --in manifest.json":                                                      "manifest.json is a manifest, not a root",
		"root sign":                                                                          "the root to sign is missing",
		"root sign 1.root.json":                                                              "the key to sign with is missing",
		"root sign 1.root.json --key r3.key":                                                 "there is no terminal to ask on",
		"root sign 1.root.json --key r3.key --previous 1.root.json":                          "there is no root before it",
		"root sign pointer.json --key r3.key":                                                "pointer.json is a pointer, not a root",
		"root inspect 1.root.json --format xml":                                              "choose text or json",
		"manifest create --number 5":                                                         "what to boot is missing",
		"manifest create --kernel kernel --initramfs initrd":                                 "the number of the release is missing",
		"manifest create --number 6 --kernel kernel --initramfs initrd --arch vax":           "--arch",
		"manifest create --number 6 --kernel kernel --initramfs initrd --channel x":          "--channel",
		"manifest create --number 6 --kernel kernel --initramfs initrd --expires 181d":       "lives at most 180 days",
		"manifest create --number 6 --kernel kernel --initramfs initrd --dtb kernel":         "write NAME=FILE",
		"manifest create --number 6 --kernel kernel --initramfs initrd --url kernel":         "write NAME=URL",
		"manifest create --number 6 --kernel kernel --initramfs initrd --url rootfs=http:x":  "no such file",
		"manifest sign 1.root.json --key t3.key":                                             "1.root.json is a root, not a manifest",
		"pointer sign --root 1.root.json --key ts.key":                                       "the manifest to point to is missing",
		"pointer sign --manifest manifest.json --key ts.key":                                 "the root to check the manifest against is missing",
		"pointer sign --manifest manifest.json --root 1.root.json --key ts.key --expires 1d": "lives at least 3 days",
		"pointer sign --manifest manifest.json --root 1.root.json":                           "the key to sign with is missing",
		"merge 1.root.json":                                         "a second copy is missing",
		"merge 1.root.json 1.root.json":                             "the file to write is missing",
		"publish --pointer pointer.json":                            "the folder to publish in is missing",
		"publish --to p":                                            "the pointer is missing",
		"publish --to p --pointer pointer.json --proof x":           "what media ask of a log proof is missing",
		"publish --to p --pointer pointer.json --dtb x":             "write NAME=FILE",
		"publish --to p --pointer pointer.json --dtb a=b --dtb a=b": "named twice",
		"publish --to p --pointer manifest.json":                    "manifest.json is a manifest, not a pointer",
		"publish --to p --pointer pointer.json -m pointer.json":     "pointer.json is a pointer, not a manifest",
		"check-expiry":                 "a file or folder is missing",
		"check-expiry --warn soon .":   "--warn",
		"check-expiry --at then .":     "--at",
		"check-expiry --format yaml .": "choose text or json",
	} {
		stdout, _, err := call(t, now, strings.Fields(line)...)
		if !errors.As(err, new(UsageError)) || !strings.Contains(err.Error(), want) || stdout != "" {
			t.Errorf("%s: %v, stdout %q", line, err, stdout)
		}
	}
}

// TestRefusals: each says why, and all that matter say what to do.
func TestRefusals(t *testing.T) {
	settle(t)
	put(t, "junk.json", []byte("{}"))
	put(t, "words", []byte("several words of a test\n"))
	must(t, "keygen locked --passphrase-file words")
	must(t, "root renew --in 1.root.json")
	before := string(get(t, "1.root.json"))
	for line, want := range map[string]string{
		"keygen --plain r1":                   "never overwritten",
		"keygen new":                          "needs a passphrase",
		"keygen new --passphrase-file none":   "no such file",
		"keygen new --passphrase-file r1.key": "more than one line",
		"keygen nowhere/new --plain":          "no such file",
		"root init --root-key r1.pub --root-key r2.pub --targets-key t1.pub --timestamp-key ts.pub --out x":                                      "refusing a weak root: it has 2 root keys",
		"root init --root-key r1.pub --root-key r2.pub --root-key r3.pub --root-threshold 1 --targets-key t1.pub --timestamp-key ts.pub --out x": "one stolen root key is enough",
		"root init --root-key r1.pub --root-key r2.pub --root-key r3.pub --root-threshold 4 --targets-key t1.pub --timestamp-key ts.pub --out x": "threshold 4 but 3 keys",
		"root init --root-key r1.pub --root-key r2.pub --root-key r3.pub --targets-key r1.pub --timestamp-key ts.pub --out x":                    "serves",
		"root init --root-key r1.key --targets-key t1.pub --timestamp-key ts.pub --out x":                                                        "this is a private key",
		"root init --root-key r1.pub --root-key r2.pub --root-key r3.pub --targets-key t1.pub --timestamp-key ts.pub":                            "1.root.json is there already",
		"root rotate --in 1.root.json --old r1.pub --new r1.pub --out x":                                                                         "are the same key",
		"root rotate --in 1.root.json --old r1.pub --new locked.pub":                                                                             "2.root.json is there already",
		"root add-key --in 2.root.json --role root --key r1.pub":                                                                                 "serves",
		"root remove-key --in 2.root.json --key locked.pub":                                                                                      "the root has no key",
		"root remove-key --in 2.root.json --key abc":                                                                                             "neither a key id nor a key file",
		"root remove-key --in 2.root.json --key ts.pub":                                                                                          "threshold",
		"root set-threshold --in 2.root.json --role targets --threshold 4":                                                                       "targets would need 4 signatures and have 3 keys",
		"root renew --in junk.json":                                                                     "root refused (malformed)",
		"root renew --in none.json":                                                                     "no such file",
		"root sign 2.root.json --previous 1.root.json --key ts.key --yes":                               "would not count",
		"root sign 2.root.json --previous 1.root.json --key none.key --yes":                             "no such file",
		"root sign 2.root.json --previous 1.root.json --key locked.key --yes":                           "no passphrase was given",
		"root sign 2.root.json --previous 1.root.json --key r1.pub --yes":                               "the public half",
		"root sign 2.root.json --previous 2.root.json --key r1.key --yes":                               "signature verification failed",
		"root inspect 2.root.json --root 1.root.json":                                                   "root-chain",
		"root inspect 1.root.json --root 2.root.json":                                                   "signature verification failed",
		"manifest create --number 6 --kernel none --initramfs initrd --out x":                           "hash the kernel",
		"manifest create --number 6 --kernel kernel --initramfs initrd --cmdline init=/x --out x":       "command line sets init=",
		"manifest create --number 6 --kernel kernel --initramfs initrd --base ftp://x --out x":          "neither http nor https",
		"manifest create --number 6 --kernel kernel --initramfs initrd --security-floor 7 --out x":      "security_floor",
		"manifest create --number 6 --kernel kernel --initramfs initrd":                                 "manifest.json is there already",
		"manifest sign manifest.json --root 1.root.json --key r1.key --yes":                             "none of the targets keys of root version 1",
		"manifest sign manifest.json --root 1.root.json --key t3.key --kernel initrd --yes":             "initrd is not the kernel of this manifest",
		"manifest sign manifest.json --root 1.root.json --key t3.key --rootfs initrd --yes":             "initrd is not the rootfs of this manifest",
		"manifest sign manifest.json --key locked.key --passphrase-file kernel --yes":                   "wrong passphrase",
		"manifest inspect manifest.json --root 2.root.json":                                             "signature verification failed",
		"pointer sign --manifest manifest.json --root 1.root.json --key r1.key --yes --out x":           "none of the timestamp keys",
		"pointer sign --manifest manifest.json --root 1.root.json --key ts.key --yes --out 1.root.json": "which is no pointer",
		"pointer sign --manifest pointer.json --root 1.root.json --key ts.key --yes --out x":            "pointer.json",
		"merge 1.root.json manifest.json --out x":                                                       "different documents",
		"merge 1.root.json 2.root.json --out x":                                                         "different documents",
		"merge 1.root.json junk.json --out x":                                                           "neither a root nor a manifest nor a pointer",
		"merge 1.root.json 1.root.json --out 2.root.json":                                               "2.root.json is there already",
		"publish --to p --pointer pointer.json":                                                         "there is no root",
		"check-expiry none":                                                                             "no such file",
		"check-expiry junk.json":                                                                        "neither a root nor",
	} {
		_, _, err := call(t, now, strings.Fields(line)...)
		if err == nil || errors.As(err, new(UsageError)) || !strings.Contains(strings.ToLower(err.Error()), strings.ToLower(want)) {
			t.Errorf("%s: %v", line, err)
		}
	}
	if _, err := os.Lstat("x"); err == nil {
		t.Error("a refused command left a file")
	}
	if string(get(t, "1.root.json")) != before {
		t.Error("the complete root was changed")
	}
}

// TestOnlyWhatIsShownIsSigned: members that this program does not know may mean
// anything.
func TestOnlyWhatIsShownIsSigned(t *testing.T) {
	settle(t)
	put(t, "root.json", bytes.Replace(get(t, "1.root.json"), []byte(`"version":1}`), []byte(`"version":1,"x-more":true}`), 1))
	var file struct {
		Signed struct {
			Data string `json:"data"`
		} `json:"signed"`
	}
	if err := json.Unmarshal(get(t, "manifest.json"), &file); err != nil {
		t.Fatal(err)
	}
	payload, err := base64.StdEncoding.DecodeString(file.Signed.Data)
	if err != nil {
		t.Fatal(err)
	}
	payload = bytes.Replace(payload, []byte(`"version":"0.1"`), []byte(`"version":"0.1","x_more":true`), 1)
	more, err := json.Marshal(map[string]any{"signatures": []any{}, "signed": map[string]any{"data": base64.StdEncoding.EncodeToString(payload)}})
	if err != nil {
		t.Fatal(err)
	}
	put(t, "more.json", more)
	for _, line := range []string{"root sign root.json --key r1.key --yes", "manifest sign more.json --key t1.key --yes"} {
		if _, _, err := call(t, now, strings.Fields(line)...); err == nil || !regexp.MustCompile(`cannot show you: "x.more"`).MatchString(err.Error()) {
			t.Errorf("%s: %v", line, err)
		}
	}
	if _, _, err := call(t, now, "root", "renew", "--in", "root.json", "--out", "x"); err == nil {
		t.Error("edited a root with something unknown in it")
	}
}

// TestSignReplaces: the same person twice is one signature, and --out leaves
// the first file alone.
func TestSignReplaces(t *testing.T) {
	settle(t)
	must(t, "root renew --in 1.root.json")
	before := get(t, "2.root.json")
	must(t, "root sign 2.root.json --previous 1.root.json --key r1.key --out mine.json --yes")
	if !bytes.Equal(get(t, "2.root.json"), before) {
		t.Error("--out changed the draft as well")
	}
	for range 2 {
		if out := must(t, "root sign 2.root.json --previous 1.root.json --key r1.key --yes"); !strings.Contains(out, "1 given, 2 needed") {
			t.Error(out)
		}
	}
	if !bytes.Equal(get(t, "2.root.json"), get(t, "mine.json")) {
		t.Error("the same signature gave another file")
	}
}

// TestLinkIsRefused: signing in place neither writes through a link nor leaves
// the file unsigned that people mean.
func TestLinkIsRefused(t *testing.T) {
	settle(t)
	must(t, "root renew --in 1.root.json --out real.json")
	before := get(t, "real.json")
	if err := os.Symlink("real.json", "2.root.json"); err != nil {
		t.Fatal(err)
	}
	_, stderr, err := call(t, now, strings.Fields("root sign 2.root.json --previous 1.root.json --key r1.key --yes")...)
	if err == nil || !strings.Contains(err.Error(), "2.root.json is a link") || stderr != "" {
		t.Errorf("%v, %s", err, stderr)
	}
	if info, err := os.Lstat("2.root.json"); err != nil || info.Mode().IsRegular() || !bytes.Equal(get(t, "real.json"), before) {
		t.Error("the link was replaced or followed")
	}
}

// TestNobodysSignatureIsLost: two people sign the same file at the same time.
func TestNobodysSignatureIsLost(t *testing.T) {
	settle(t)
	must(t, "root renew --in 1.root.json")
	mine, err := openRootDraft("2.root.json")
	if err != nil {
		t.Fatal(err)
	}
	must(t, "root sign 2.root.json --previous 1.root.json --key r1.key --yes")
	theirs := get(t, "2.root.json")
	if err := save(mine, ""); err == nil || !strings.Contains(err.Error(), "was changed meanwhile") {
		t.Errorf("%v", err)
	}
	if !bytes.Equal(get(t, "2.root.json"), theirs) {
		t.Error("the other signature is gone")
	}
}

// TestStrangeRole: a role that means nothing to machines could only deceive
// people, by its name for instance.
func TestStrangeRole(t *testing.T) {
	settle(t)
	must(t, "keygen --plain x")
	root := get(t, "1.root.json")
	x := map[string]any{}
	if err := json.Unmarshal(get(t, "x.pub"), &x); err != nil {
		t.Fatal(err)
	}
	id := x["keyid"].(string)
	delete(x, "keyid")
	key, err := json.Marshal(x)
	if err != nil {
		t.Fatal(err)
	}
	name := "\u009b2J\u202edigest  1234"
	root = bytes.Replace(root, []byte(`"keys":{`), fmt.Appendf(nil, `"keys":{"%s":%s,`, id, key), 1)
	root = bytes.Replace(root, []byte(`"roles":{`), fmt.Appendf(nil, `"roles":{"%s":{"keyids":["%s"],"threshold":1},`, name, id), 1)
	put(t, "strange.json", root)
	out := must(t, "root inspect strange.json")
	if !strings.Contains(out, `meaningless role "\u009b2J\u202edigest`) {
		t.Errorf("%q", out)
	}
	_, stderr, err := call(t, now, strings.Fields("root sign strange.json --key r1.key --yes")...)
	if err == nil || !strings.Contains(err.Error(), "cannot show you") || strings.Contains(stderr, "\u009b") {
		t.Errorf("%v, %q", err, stderr)
	}
	if _, _, err = call(t, now, "root", "renew", "--in", "strange.json", "--out", "y"); err == nil || !strings.Contains(err.Error(), "means nothing to machines") {
		t.Errorf("%v", err)
	}
}

// TestNamesDoNotReachTheTerminal: nor do those of files that lie in a folder.
func TestNamesDoNotReachTheTerminal(t *testing.T) {
	settle(t)
	if err := os.MkdirAll("d", 0o755); err != nil {
		t.Fatal(err)
	}
	put(t, "d/\x1b[31m\u202ex.json", get(t, "pointer.json"))
	if out := must(t, "check-expiry d"); strings.ContainsAny(out, "\x1b\u202e") || !strings.Contains(out, "?[31m?x.json") {
		t.Errorf("%q", out)
	}
	if out := must(t, "keygen --plain \x1b[31mx"); strings.Contains(out, "\x1b") {
		t.Errorf("%q", out)
	}
}

// TestManifestIsShownWhole: all that is signed, in lines that do not run on.
func TestManifestIsShownWhole(t *testing.T) {
	m := manifest.Manifest{Cmdline: strings.Repeat("quiet ", 30) + "end"}
	m.Kernel.IPFS = "bafy1"
	rows := strings.Join(manifestRows(m, now), "\n")
	for _, want := range []string{"ipfs bafy1", "cmdline\t" + strings.Repeat("quiet ", 10) + "\n\tquiet", "\n\tend"} {
		if !strings.Contains(rows, want) {
			t.Errorf("%q lacks %q", rows, want)
		}
	}
}

// TestNamesTellWhereTheyAreFrom: whoever brings a document may bring names.
func TestNamesTellWhereTheyAreFrom(t *testing.T) {
	settle(t)
	must(t, "root renew --in 1.root.json")
	if err := os.MkdirAll("stick", 0o755); err != nil {
		t.Fatal(err)
	}
	must(t, "keygen --plain stick/grace")
	must(t, "root rotate --in 2.root.json --old r3.pub --new stick/grace.pub")
	put(t, "stick/friend.pub", get(t, "r1.pub"))
	put(t, "stick/2.root.json", get(t, "2.root.json"))
	_, stderr, err := call(t, now, strings.Fields("root sign stick/2.root.json --previous 1.root.json --key r1.key --yes")...)
	if err != nil || !strings.Contains(stderr, "add     stick/grace.pub") || strings.Contains(stderr, "friend") {
		t.Errorf("%v, %s", err, stderr)
	}
	if !strings.Contains(stderr, "against  1.root.json, which must be the one that machines have") {
		t.Error(stderr)
	}
}

// TestDraftBesideRoots: the hint says why a folder cannot be used.
func TestDraftBesideRoots(t *testing.T) {
	settle(t)
	must(t, "root renew --in 1.root.json")
	_, _, err := call(t, now, strings.Fields("manifest sign manifest.json --root . --key t3.key --yes")...)
	var hinted interface{ Hint() string }
	if !errors.As(err, &hinted) || !strings.Contains(hinted.Hint(), "a folder of its own until it is complete") {
		t.Errorf("%v", err)
	}
}

// TestManifestFromTheFuture: signers hear of it before machines do.
func TestManifestFromTheFuture(t *testing.T) {
	settle(t)
	_, stderr, _ := call(t, now.Add(-day), strings.Fields("manifest sign manifest.json --key t3.key --yes")...)
	if !strings.Contains(stderr, "which is yet to come") {
		t.Error(stderr)
	}
}

// TestLogFolderIsPublic: a key in it would be published.
func TestLogFolderIsPublic(t *testing.T) {
	settle(t)
	if err := os.Mkdir("log", 0o755); err != nil {
		t.Fatal(err)
	}
	must(t, "keygen --plain log/k")
	must(t, "keygen --plain k")
	if err := os.Symlink("log", "link"); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"log init log --origin x --key log/k.key --state s --yes", "log init log --origin x --key k.key --state link/s --yes",
		"log init link --origin x --key log/k.key --state s --yes",
	} {
		if _, _, err := call(t, now, strings.Fields(line)...); err == nil || !strings.Contains(err.Error(), "lies in the folder of the log") {
			t.Errorf("%s: %v", line, err)
		}
	}
	must(t, "log init log --origin x --key k.key --yes")
}

// TestCompared: people are told which files are theirs.
func TestCompared(t *testing.T) {
	settle(t)
	_, stderr, err := call(t, now, strings.Fields("manifest sign manifest.json --root 1.root.json --key t3.key --kernel kernel --yes")...)
	if err != nil || !strings.Contains(stderr, "compared       kernel is your kernel") || !strings.Contains(stderr, "not compared   initramfs") {
		t.Errorf("%v, %s", err, stderr)
	}
}

func TestInspectJSON(t *testing.T) {
	settle(t)
	for line, want := range map[string]string{
		"root inspect 1.root.json -f json":                               "unverified",
		"root inspect 1.root.json --root 1.root.json -f json":            "verified",
		"manifest inspect manifest.json -f json":                         "unverified",
		"manifest inspect manifest.json --root 1.root.json -f json":      "verified",
		"pointer inspect pointer.json -f json":                           "unverified",
		"pointer inspect pointer.json --root . -f json":                  "verified",
		"pointer inspect pointer.json --root 1.root.json --format=json ": "verified",
	} {
		var got finding
		if err := json.Unmarshal([]byte(must(t, line)), &got); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if got.Status != want || got.Digest.IsZero() || got.Expires.IsZero() || len(got.KeyIDs) == 0 {
			t.Errorf("%s: %+v", line, got)
		}
	}
	// A refusal is JSON with its code, and a failure.
	stdout, _, err := call(t, now.Add(400*day), "manifest", "inspect", "manifest.json", "--root", "1.root.json", "-f", "json")
	var got finding
	if jsonErr := json.Unmarshal([]byte(stdout), &got); jsonErr != nil || !errors.Is(err, ErrReported) {
		t.Fatalf("%v, %v", err, jsonErr)
	}
	if got.Status != "refused" || got.Code != "VFY-013" || got.Reason == "" {
		t.Errorf("%+v", got)
	}
}

func TestCheckExpiry(t *testing.T) {
	settle(t)
	must(t, "publish --to published --root 1.root.json --manifest manifest.json --pointer pointer.json --kernel kernel --initramfs initrd --dtb board.dtb=kernel")
	for _, tt := range []struct {
		line       string
		bad        bool
		want, wont string
	}{
		{"check-expiry published", false, "ok", "soon"},
		{"check-expiry --quiet published", false, "", "ok"},
		{"check-expiry --at 6d published", true, "soon", "expired"},
		{"check-expiry --at 6d --warn 1h published", false, "ok", "soon"},
		{"check-expiry --at 7d published", true, "expired", "soon"},
		{"check-expiry --at 80d --quiet published", true, "soon     manifest", "root"},
		{"check-expiry --warn 400d published/stable/x86_64/root.json", true, "soon   root", "manifest"},
		{"check-expiry 1.root.json manifest.json", false, "manifest.json", "pointer"},
	} {
		stdout, stderr, err := call(t, now, strings.Fields(tt.line)...)
		if (err != nil) != tt.bad || tt.bad && !errors.Is(err, ErrReported) {
			t.Errorf("%s: %v", tt.line, err)
		}
		if !strings.Contains(stdout, tt.want) || strings.Contains(stdout, tt.wont) || stderr != "" {
			t.Errorf("%s: %s%s", tt.line, stdout, stderr)
		}
	}
	if _, _, err := call(t, now, "check-expiry", t.TempDir()); err == nil || !strings.Contains(err.Error(), "no root, manifest or pointer in") {
		t.Errorf("an empty folder is fine: %v", err)
	}
}

// TestCheckExpiryFollowsLinks to files, as a web server does; not to folders.
func TestCheckExpiryFollowsLinks(t *testing.T) {
	settle(t)
	if err := errors.Join(os.MkdirAll("published/loop", 0o755), os.Symlink("../pointer.json", "published/pointer.json"),
		os.Symlink("../1.root.json", "published/root.json"), os.Symlink("..", "published/loop/all.json")); err != nil {
		t.Fatal(err)
	}
	stdout, _, err := call(t, now, "check-expiry", "--at", "7d", "published")
	if !errors.Is(err, ErrReported) || strings.Count(stdout, "expired") != 1 || strings.Count(stdout, ".json") != 2 {
		t.Errorf("%v, %s", err, stdout)
	}
	if err := errors.Join(os.Remove("pointer.json"), os.Symlink("/dev/zero", "published/manifest.json")); err != nil {
		t.Fatal(err)
	}
	stdout, _, err = call(t, now, "check-expiry", "published")
	if !errors.Is(err, ErrReported) || strings.Count(stdout, "broken") != 2 {
		t.Errorf("a dangling link and a device: %v, %s", err, stdout)
	}
}

// TestInspectShowsTheDigestAsSignDoes, for people who compare it by voice.
func TestInspectShowsTheDigestAsSignDoes(t *testing.T) {
	settle(t)
	must(t, "root renew --in 1.root.json")
	_, shown, err := call(t, now, "root", "sign", "2.root.json", "--previous", "1.root.json", "--key", "r1.key", "--yes")
	if err != nil {
		t.Fatal(err)
	}
	groups := regexp.MustCompile(`(?:[0-9a-f]{4} ){7}[0-9a-f]{4}`)
	want, got := groups.FindAllString(shown, -1), groups.FindAllString(must(t, "root inspect 2.root.json"), -1)
	if len(want) < 2 || strings.Join(want[len(want)-2:], " ") != strings.Join(got, " ") { // sign shows the root before as well
		t.Errorf("sign shows %q, inspect %q", want, got)
	}
}

// TestCheckExpiryBroken: a pointer that no machine can read is no reason to be
// silent.
func TestCheckExpiryBroken(t *testing.T) {
	settle(t)
	must(t, "publish --to published --root 1.root.json --manifest manifest.json --pointer pointer.json --kernel kernel --initramfs initrd --dtb board.dtb=kernel")
	put(t, "published/stable/x86_64/pointer.json", get(t, "pointer.json")[:100])
	put(t, "published/notes.json", []byte("{}"))
	stdout, _, err := call(t, now, "check-expiry", "--quiet", "published")
	if !errors.Is(err, ErrReported) || !strings.Contains(stdout, "broken  pointer") || strings.Contains(stdout, "notes") {
		t.Errorf("%v, %s", err, stdout)
	}
	if err := os.Remove("published/stable/x86_64/pointer.json"); err != nil {
		t.Fatal(err)
	}
	stdout, _, err = call(t, now, "check-expiry", "--quiet", "published")
	if !errors.Is(err, ErrReported) || !strings.Contains(stdout, "note: it is not there") {
		t.Errorf("%v, %s", err, stdout)
	}
}

// TestCheckExpiryConnects: what else is wrong around a pointer.
func TestCheckExpiryConnects(t *testing.T) {
	settle(t)
	must(t, "manifest create --number 6 --kernel kernel --initramfs initrd --expires 5d --out six.json")
	must(t, "manifest sign six.json --root 1.root.json --key t1.key --yes")
	must(t, "manifest sign six.json --root 1.root.json --key t2.key --yes")
	must(t, "pointer sign --manifest six.json --root 1.root.json --key ts.key --yes --out p6.json")
	_, stderr, err := call(t, now, strings.Fields("publish --to published --root 1.root.json --manifest six.json --pointer p6.json --kernel kernel --initramfs initrd")...)
	if err != nil || !strings.Contains(stderr, "warning: the manifest expires") {
		t.Errorf("%v, %s", err, stderr)
	}
	var got struct{ Documents []life }
	stdout, _, _ := call(t, now, "check-expiry", "-f", "json", "published")
	if err := json.Unmarshal([]byte(stdout), &got); err != nil {
		t.Fatal(err)
	}
	notes := map[string]string{}
	for _, l := range got.Documents {
		notes[l.Kind] = strings.Join(l.Notes, "; ")
	}
	if notes["pointer"] != "its manifest ends before it" || notes["manifest"] != "" || len(got.Documents) != 3 {
		t.Errorf("%v", notes)
	}
	put(t, filepath.Join("published", "stable", "x86_64", "manifest.json"), get(t, "manifest.json"))
	must(t, "root renew --in 1.root.json --out published/stable/x86_64/root.json.draft")
	stdout, _, _ = call(t, now, "check-expiry", "published", "published/stable/x86_64/root.json.draft")
	for _, want := range []string{"it points to another manifest than the one beside it", "a draft: 2 signatures missing"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("does not say %q: %s", want, stdout)
		}
	}
}

// TestDraftSucceedsNothing: the watch stays on the root that machines have until
// the next one is signed.
func TestDraftSucceedsNothing(t *testing.T) {
	settle(t)
	must(t, "root renew --in 1.root.json --expires 700d")
	for _, signed := range []bool{false, true} {
		if signed {
			must(t, "root sign 2.root.json --previous 1.root.json --key r1.key --yes")
			must(t, "root sign 2.root.json --previous 1.root.json --key r2.key --yes")
		}
		stdout, _, _ := call(t, now, "check-expiry", "--at", "360d", ".")
		if strings.Contains(stdout, "soon     root") == signed || strings.Contains(stdout, "a draft") == signed {
			t.Errorf("signed %v: %s", signed, stdout)
		}
	}
}

// TestStrangersSignature: what does not count is named.
func TestStrangersSignature(t *testing.T) {
	settle(t)
	d, err := openManifestDraft("manifest.json")
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := keyfile.Generate()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.draft.Sign(stranger); err != nil {
		t.Fatal(err)
	}
	if err := save(d, ""); err != nil {
		t.Fatal(err)
	}
	if out := must(t, "manifest inspect manifest.json --root 1.root.json"); !strings.Contains(out, "VERIFIED") || strings.Count(out, "does not count") != 1 {
		t.Error(out)
	}
}

// TestPublishIsExclusive: cron and a person at once.
func TestPublishIsExclusive(t *testing.T) {
	settle(t)
	unlock, err := release.Lock("published")
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	line := "publish --to published --root 1.root.json --manifest manifest.json --pointer pointer.json --kernel kernel --initramfs initrd --dtb board.dtb=kernel"
	if _, _, err := call(t, now, strings.Fields(line)...); err == nil || !strings.Contains(err.Error(), "somebody else is publishing") {
		t.Errorf("%v", err)
	}
}

// TestWeakRootForTrials: allowed when asked for, and never in silence, neither
// for the one who makes it nor for those who sign.
func TestWeakRootForTrials(t *testing.T) {
	settle(t)
	_, stderr, err := call(t, now, strings.Fields("root init --root-key r1.pub --targets-key t1.pub --timestamp-key ts.pub --out weak.json --allow-weak")...)
	if err != nil || !strings.Contains(stderr, "warning: one stolen root key is enough") || !strings.Contains(stderr, "one stolen targets key is enough") {
		t.Errorf("%v, %s", err, stderr)
	}
	_, stderr, err = call(t, now, strings.Fields("root sign weak.json --key r1.key --yes")...)
	if err != nil || !strings.Contains(stderr, "warning: one stolen root key is enough") {
		t.Errorf("%v, %s", err, stderr)
	}
	_, stderr, err = call(t, now.Add(366*day), strings.Fields("root sign 1.root.json --key r3.key --yes")...)
	if err != nil || !strings.Contains(stderr, "has expired already") {
		t.Errorf("%v, %s", err, stderr)
	}
}

// TestPublishersAreToldWhatPublishersDo, and not to use another medium.
func TestPublishersAreToldWhatPublishersDo(t *testing.T) {
	settle(t)
	must(t, "root renew --in 1.root.json")
	must(t, "root sign 2.root.json --previous 1.root.json --key r1.key --yes")
	late := now.AddDate(0, 0, 8)
	publish := "publish --to p --manifest manifest.json --pointer pointer.json --kernel kernel --initramfs initrd --dtb board.dtb=kernel --root "
	for _, tt := range []struct {
		line string
		at   time.Time
		hint string
	}{
		{publish + "1.root.json --root 2.root.json", now, "It lacks signatures"},
		{publish + "1.root.json", late, "sign a new pointer"},
		{publish + "1.root.json", now.AddDate(3, 0, 0), "phase release"},
		{"root inspect 2.root.json --root 1.root.json", now, "phase release root inspect"},
		{"pointer sign --manifest manifest.json --root . --key ts.key --yes", now, "It lacks signatures"},
		{"pointer sign --manifest manifest.json --root 1.root.json --key ts.key --yes", now.AddDate(0, 7, 0), "make a new manifest"},
	} {
		_, _, err := call(t, tt.at, strings.Fields(tt.line)...)
		var hinted interface{ Hint() string }
		if !errors.As(err, &hinted) || !strings.Contains(hinted.Hint(), tt.hint) || strings.Contains(hinted.Hint(), "medium") {
			t.Errorf("%s: %v, hinted %v", tt.line, err, hinted)
		}
	}
	for rule := range publisherHints {
		if (&manifest.Error{Rule: rule}).Hint() == "" {
			t.Errorf("there is no rule %q", rule)
		}
	}
}

// TestHints: what a person is most likely to meet ends with what to do.
func TestHints(t *testing.T) {
	settle(t)
	for _, line := range []string{
		"keygen --plain r1", "keygen new", "root init --root-key r1.pub --targets-key t1.pub --timestamp-key ts.pub --out x",
		"root remove-key --in 1.root.json --key 00000000", "merge 1.root.json pointer.json manifest.json --out pointer.json",
		"pointer sign --manifest manifest.json --root 1.root.json --key r1.key --yes", "publish --to p --pointer pointer.json",
		"check-expiry kernel", "manifest sign manifest.json --key t3.key --initramfs kernel --yes",
	} {
		_, _, err := call(t, now, strings.Fields(line)...)
		var hinted interface{ Hint() string }
		var different = errors.Is(err, manifest.ErrOtherDraft)
		if err == nil || !different && (!errors.As(err, &hinted) || !strings.HasSuffix(hinted.Hint(), ".")) {
			t.Errorf("%s: no hint in: %v", line, err)
		}
	}
}
