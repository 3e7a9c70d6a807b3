package ceremony

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestNoNetworkCode reads the dependencies of the commands. Package net itself
// cannot be missing: crypto/x509 and pflag name addresses with its types. So
// nothing else may import it, nothing of ours at all, and what speaks protocols
// or starts other programs is not there. That the code never asks for a socket
// is what the rehearsals show.
func TestNoNetworkCode(t *testing.T) {
	knowNet := []string{"crypto/x509", "github.com/spf13/pflag"}
	never := []string{"crypto/tls", "net/http", "net/rpc", "net/smtp", "os/exec", "plugin", "golang.org/x/net",
		"github.com/libp2p", "github.com/beevik", "github.com/vishvananda", "github.com/insomniacslk"}
	list := exec.Command("go", "list", "-deps", "-json=ImportPath,Imports", ".")
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; seen++ {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if slices.ContainsFunc(never, func(path string) bool { return p.ImportPath == path || strings.HasPrefix(p.ImportPath, path+"/") }) {
			t.Errorf("depends on %s", p.ImportPath)
		}
		if slices.Contains(p.Imports, "net") && !slices.Contains(knowNet, p.ImportPath) {
			t.Errorf("%s imports net", p.ImportPath)
		}
	}
	if seen < 50 {
		t.Errorf("only %d packages were listed", seen)
	}
}
