package vm_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/phasebased/phase/internal/lab"
	"github.com/phasebased/phase/internal/vm"
)

// TestRunUntilReceipt starts two machines with `phase vm run`, as a person or a
// script would, from one medium: the first boots from the provider, the second is
// on a LAN with the first alone, and boots from it. Both show a receipt that
// verifies, and the medium is what it was.
func TestRunUntilReceipt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*bootWithin)
	defer cancel()
	b.publish(b.release(1), "")
	b.serve()
	b.medium(lab.ImageOptions{Mode: "local", Options: "phase.provider=" + b.ports.Base()})
	before := digest(t, b.image)

	state := filepath.Join(b.run, "state")
	cmd := exec.CommandContext(ctx, filepath.Join(repository, "build", "bin", "phase"), "vm", "run", "--state", state,
		"--machines", "2", "--name", "pair", "--net", "first", "--in-turn", "--as", vm.BusSCSI,
		"--until", "receipt", "--timeout", bootWithin.String(), "--format", "json", b.image)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v; it said:\n%s%s", err, calm(stderr.String()), stdout.String())
	}
	var result struct {
		OK       bool `json:"ok"`
		Machines []struct {
			Name      string          `json:"name"`
			ElapsedMS int64           `json:"elapsed_ms"`
			Node      lab.NodeInfo    `json:"node"`
			Receipt   json.RawMessage `json:"receipt"`
		} `json:"machines"`
	}
	check(t, json.Unmarshal(stdout.Bytes(), &result))
	if m := result.Machines; !result.OK || len(m) != 2 || m[0].Name != "pair-1" || m[1].Name != "pair-2" ||
		len(m[0].Receipt) == 0 || len(m[1].Receipt) == 0 || m[0].Node.Key == m[1].Node.Key {
		t.Fatalf("the result is %s", stdout.String())
	}
	said := stderr.String()
	for _, want := range []string{"pair-1 | ", "pair-2 | ", "mdns plasmd-", "For other machines: release 1"} {
		if !strings.Contains(said, want) {
			t.Errorf("it did not say %q:\n%s", want, calm(said))
		}
	}
	var second []string
	for line := range strings.Lines(said) {
		if strings.HasPrefix(line, "pair-2 | ") {
			second = append(second, line)
		}
	}
	if words := strings.Join(second, ""); !strings.Contains(words, "169.254.") || strings.Contains(words, "10.0.2.15") {
		t.Errorf("the second machine was not on the closed LAN alone:\n%s", calm(words))
	}
	if !bytes.Equal(before, digest(t, b.image)) {
		t.Error("the medium was written to")
	}
}
