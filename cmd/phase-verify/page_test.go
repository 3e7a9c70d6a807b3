package main

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/dsse"
	"github.com/phasebased/phase/logproof"
	"github.com/phasebased/phase/manifest"
)

// page is what decides: the order of verification, and the form of the documents.
func page(t *testing.T) string {
	t.Helper()
	text := ""
	for _, name := range []string{"verification.md", "spec/documents.md", "spec/manifest.md", "spec/pointer.md", "spec/root.md"} {
		text += pageOf(t, name)
	}
	return text
}

func pageOf(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestPageListsRules: the table of codes is what the programs say.
func TestPageListsRules(t *testing.T) {
	rows := map[string][]string{}
	for _, m := range regexp.MustCompile(`(?m)^\| (VFY-\d{3}) \| (\S+) \| (.+?) \| (.+?) \|$`).FindAllStringSubmatch(pageOf(t, "codes.md"), -1) {
		if rows[m[1]] != nil {
			t.Errorf("two rows for %s", m[1])
		}
		rows[m[1]] = m[2:]
	}
	for i, rule := range manifest.Rules() {
		if want := fmt.Sprintf("VFY-%03d", i+1); rule.Code() != want {
			t.Errorf("rule %s has code %s, want %s", rule, rule.Code(), want)
		}
		row := rows[rule.Code()]
		if len(row) != 3 || row[0] != string(rule) || row[2] != rule.Hint() {
			t.Errorf("the row of %s %s should end with %q, it is %q", rule.Code(), rule, rule.Hint(), row)
		}
		delete(rows, rule.Code())
	}
	for _, code := range []string{"VFY-019", "VFY-020", "VFY-021", "VFY-022", "VFY-023"} {
		if rows[code] == nil {
			t.Errorf("no row for %s", code)
		}
		delete(rows, code)
	}
	if len(rows) > 0 {
		t.Errorf("rows for codes that nobody has: %v", rows)
	}
}

// TestPageNumbers: limits are written as the programs have them.
func TestPageNumbers(t *testing.T) {
	text := page(t)
	for _, want := range []string{
		fmt.Sprintf("*and* its own | %d bytes |", manifest.MaxRootBytes),
		fmt.Sprintf("or else targets | %d bytes | %d days |", manifest.MaxManifestBytes, int(manifest.MaxManifestLife.Hours()/24)),
		fmt.Sprintf("timestamp | %d bytes | %d days |", manifest.MaxPointerBytes, int(manifest.MaxPointerLife.Hours()/24)),
		fmt.Sprintf("(`manifest.tlog-proof`, at most %d bytes)", logproof.MaxProofSize),
		fmt.Sprintf("C2SP tlog-policy, at most %d\nbytes)", logproof.MaxPolicySize),
		fmt.Sprintf("at most %d signatures", dsse.MaxSignatures),
		fmt.Sprintf("kernel and initramfs to %d, rootfs to %d, a\ndevice tree to %d and all of them together to %d.",
			manifest.MaxKernelBytes, int64(manifest.MaxRootfsBytes), manifest.MaxDTBBytes, manifest.MaxDTBsBytes),
		fmt.Sprintf("(1 to %d device trees by name)", manifest.MaxDTBs),
		fmt.Sprintf("at most %d absolute `http` or `https` URLs of at most %d bytes", manifest.MaxURLs, manifest.MaxURLBytes),
		fmt.Sprintf("1 to %d characters of printable ASCII", manifest.MaxCmdlineBytes),
		fmt.Sprintf("at most %d times (specification", manifest.MaxRootChain),
		fmt.Sprintf("at most %d minutes after now", int(manifest.MaxSkew.Minutes())),
		fmt.Sprintf("size from 1 to %d |", manifest.MaxManifestBytes),
		manifest.ManifestPayloadType, manifest.PointerPayloadType,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
}

// TestPageExamples: what the page shows of a vector is true.
func TestPageExamples(t *testing.T) {
	text := page(t)
	raw, err := os.ReadFile(filepath.Join(vectorDir, "manifest-ok.json"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Signed struct{ Data string } }
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	payload, err := base64.StdEncoding.DecodeString(file.Signed.Data)
	if err != nil {
		t.Fatal(err)
	}
	begin, _, _ := strings.Cut(string(dsse.PAE(manifest.ManifestPayloadType, payload)), `"artifacts"`)
	key := regexp.MustCompile("The key `([0-9a-f]{64})`\nhas the id `([0-9a-f]{64})`").FindStringSubmatch(text)
	if key == nil {
		t.Fatal("no example of a key id")
	}
	public, err := hex.DecodeString(key[1])
	if err != nil || dsse.KeyID(ed25519.PublicKey(public)) != key[2] {
		t.Errorf("the key's id is %s", dsse.KeyID(public))
	}
	entry := string(manifest.LogEntry(manifest.Manifest{ManifestVersion: 7, Channel: "stable", Arch: "x86_64"}, blob.Of(payload)))
	for _, want := range []string{begin, blob.Of(payload).String(), strings.Replace(entry, blob.Of(payload).Hex(), "<payload digest>", 1)} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if !strings.Contains(string(raw), key[2]) {
		t.Error("the key of the example did not sign the example")
	}
}
