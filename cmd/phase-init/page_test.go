package main

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/internal/boot"
	"github.com/phasebased/phase/internal/bootcfg"
	"github.com/phasebased/phase/internal/dialog"
	"github.com/phasebased/phase/internal/discover"
	"github.com/phasebased/phase/internal/mdns"
	"github.com/phasebased/phase/internal/nettime"
	"github.com/phasebased/phase/internal/netup"
	"github.com/phasebased/phase/internal/p2p"
	"github.com/phasebased/phase/internal/portal"
	"github.com/phasebased/phase/internal/wifi"
)

func networkPage(t *testing.T) string { return page(t, "network.md") }

func page(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// coded is an error with a code.
type coded interface {
	error
	Code() string
	Hint() string
}

// networkErrors is one error for each code of the network and of discovery.
func networkErrors(t *testing.T) []coded {
	up := []netup.Reason{
		netup.NoInterface, netup.NoCable, netup.NoDHCP, netup.RefusedByDHCP, netup.NotConfigured, netup.NoSocket, netup.SwitchedOff, netup.KeptMAC,
	}
	clock := []nettime.Reason{nettime.NoServers, nettime.NoAnswer, nettime.NoAgreement}
	air := []wifi.Reason{
		wifi.ProgramMissing, wifi.NoAnswer, wifi.NotFound, wifi.WrongPassphrase, wifi.Refused, wifi.Unsupported, wifi.BadNetwork, wifi.RadioOff, wifi.ScanFailed,
	}
	for name, listed := range map[string]int{"netup": len(up), "nettime": len(clock), "wifi": len(air)} {
		if known := reasons(t, "../../internal/"+name+"/errors.go"); known != listed {
			t.Errorf("package %s has %d reasons, this test knows %d", name, known, listed)
		}
	}
	out := []coded{
		&portal.Error{}, &boot.PortalError{}, &discover.NotFound{}, &discover.NotFound{Answers: []discover.Answer{{}}},
		&p2p.UnreachableError{}, &p2p.UnreachableError{Peers: []p2p.PeerError{{Peer: "12D3KooW"}}},
	}
	for _, r := range up {
		out = append(out, &netup.Error{Reason: r})
	}
	for _, r := range clock {
		out = append(out, &nettime.Error{Reason: r})
	}
	for _, r := range air {
		out = append(out, &wifi.Error{Reason: r})
	}
	return out
}

// reasons counts the constants of type Reason in a file.
func reasons(t *testing.T, path string) (n int) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range file.Decls {
		block, ok := d.(*ast.GenDecl)
		if !ok || block.Tok != token.CONST {
			continue
		}
		first := block.Specs[0].(*ast.ValueSpec)
		if kind, ok := first.Type.(*ast.Ident); !ok || kind.Name != "Reason" {
			continue
		}
		for _, s := range block.Specs {
			n += len(s.(*ast.ValueSpec).Names)
		}
	}
	return n
}

// TestCodesPageListsNetwork: the tables of codes are what the programs say.
func TestCodesPageListsNetwork(t *testing.T) {
	rows := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^\| ((?:NET|DISC)-\d{3}) \| .+? \| (.+?) \|$`).FindAllStringSubmatch(page(t, "codes.md"), -1) {
		if rows[m[1]] != "" {
			t.Errorf("two rows for %s", m[1])
		}
		rows[m[1]] = strings.ReplaceAll(m[2], "`", "")
	}
	said := map[string]bool{}
	for _, e := range networkErrors(t) {
		said[e.Code()] = true
		want := strings.TrimSuffix(strings.ToUpper(e.Hint()[:1])+e.Hint()[1:], ".") + "."
		if rows[e.Code()] != want {
			t.Errorf("the row of %s ends with %q, the program says %q", e.Code(), rows[e.Code()], want)
		}
	}
	for code := range rows {
		if !said[code] {
			t.Errorf("a row for %s, which nobody says", code)
		}
	}
	for _, code := range literalCodes(t) {
		if !said[code] {
			t.Errorf("this test knows nothing of %s", code)
		}
	}
}

// literalCodes are those written out in the programs.
func literalCodes(t *testing.T) []string {
	t.Helper()
	found := map[string]bool{}
	literal := regexp.MustCompile(`"((?:NET|DISC)-\d{3})"`)
	for _, root := range []string{"../../internal", "../../cmd"} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			source, err := os.ReadFile(path)
			for _, m := range literal.FindAllSubmatch(source, -1) {
				found[string(m[1])] = true
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// TestNetworkPageListsKeys: every key of the command line is on the page, with
// nothing else that looks like one.
func TestNetworkPageListsKeys(t *testing.T) {
	_, err := bootcfg.Parse("phase.nobody=knows", nil, nil, "x86_64")
	var unknown *bootcfg.Error
	if !errors.As(err, &unknown) {
		t.Fatal(err)
	}
	keys := strings.Split(unknown.Allowed, ", ")
	page := networkPage(t)
	for _, key := range keys {
		if !strings.Contains(page, "\n| `"+key+"` | ") {
			t.Errorf("no row for %s", key)
		}
	}
	for _, m := range regexp.MustCompile("\n\\| `(phase\\..+?)`|(phase\\.\\w+)=").FindAllStringSubmatch(page, -1) {
		if key := m[1] + m[2]; !slices.Contains(keys, key) {
			t.Errorf("the page speaks of %s, which is no key", key)
		}
	}
}

// TestNetworkPageNumbers: limits are written as the programs have them.
func TestNetworkPageNumbers(t *testing.T) {
	text := strings.Join(strings.Fields(networkPage(t)), " ")
	seconds := func(d time.Duration) int { return int(d.Seconds()) }
	for _, want := range []string{
		fmt.Sprintf("may be given %d times | | `phase.gateway`", bootcfg.MaxProviders),
		fmt.Sprintf("may be given %d times | | `phase.ip`", bootcfg.MaxGateways),
		fmt.Sprintf("a time server without NTS; may be given %d times", bootcfg.MaxTimeServers),
		fmt.Sprintf("tag from %d to %d", bootcfg.MinVLAN, bootcfg.MaxVLAN),
		fmt.Sprintf("usable interface, %d to %d; %d |", seconds(bootcfg.MinTimeout), seconds(bootcfg.MaxTimeout), seconds(bootcfg.Default("x86_64").Network.Timeout)),
		fmt.Sprintf("up to %d tables, each with `name`", bootcfg.MaxInterfaces),
		fmt.Sprintf("up to %d tables, each with `ssid`", bootcfg.MaxWiFiNetworks),
		fmt.Sprintf("up to %d tables `[[bootstrap]]`", bootcfg.MaxBootstrap),
		fmt.Sprintf("After %d seconds without an answer from DHCP", seconds(netup.DefaultFallbackAfter)),
		fmt.Sprintf("Who waits longer than %d seconds", seconds(netup.DefaultRemindAfter)),
		fmt.Sprintf("A form waits %d minutes", int(dialog.DefaultIdle.Minutes())),
		fmt.Sprintf("tried again after %d to %d seconds", seconds(retryAfter), seconds(retryAfter+retrySpread)),
		fmt.Sprintf("for %d second, in Local mode for %d,", seconds(lanWait(bootcfg.Internet, false)), seconds(lanWait(bootcfg.Local, false))),
		fmt.Sprintf("until %d seconds after the search began; the search ends after %d.", seconds(boot.SettleBudget), seconds(boot.SearchBudget)),
		fmt.Sprintf("others are hoped for %d seconds more", seconds(boot.Patience)),
		fmt.Sprintf("a signed pointer of at most %d bytes", p2p.MaxRecord),
		"the service `" + mdns.Service + "` in `" + mdns.Domain + "`",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
}
