package phase

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// modulePath is what every package of this repository starts with.
const modulePath = "github.com/phasebased/phase"

// importLaw is the architecture, in the manner of the Go tree's
// go/build/deps_test.go: "a, b < c, d" lets c and d import a and b and
// whatever those may import. The standard library is free for all. A package
// that is not named here may not exist.
const importLaw = `
	# Leaves: one idea each, no package of ours below them.
	NONE
	< blob, examples, internal/durable, internal/strictjson, internal/kmod, internal/netup,
	  internal/term, internal/version, internal/nettime,
	  internal/wifi, internal/lines, internal/guid, internal/refusal, internal/failure, internal/pefile, internal/fuel, internal/metrics, internal/sdnotify, internal/delta, internal/peer, internal/wasmbuild, logproof, media, schemas;

	# What strangers may vendor: the verifier.
	internal/strictjson < dsse;
	blob, dsse, internal/strictjson < receipt, internal/job;
	receipt < quorum;
	blob, dsse, logproof, internal/strictjson < manifest;

	# The corridor's rooms, in walking order.
	internal/strictjson < internal/portal;
	internal/lines < internal/tor, internal/disks;
	internal/failure < internal/kexec, internal/oneshot, internal/timeline;
	internal/pefile < internal/image, internal/oneshot;
	internal/guid < internal/gpt, internal/vm, internal/diskformat;
	internal/gpt < internal/oneshot, internal/image, internal/stick, internal/mediacheck;
	internal/refusal < internal/keyfile, internal/translog, internal/sums, internal/mediacheck;
	internal/strictjson, internal/tor < internal/bootcfg;
	internal/kmod, internal/lines < internal/sysinit;
	internal/sysinit, internal/term < internal/dialog;
	manifest, blob < internal/discover;
	manifest, internal/durable < internal/trust;
	blob, internal/durable < internal/store;
	manifest, internal/store, internal/delta < internal/fetch;
	internal/discover, internal/fetch < internal/mdns;
	blob < internal/p2p/blobwire;
	internal/discover, internal/fetch, internal/p2p/blobwire, internal/peer, manifest < internal/p2p;
	internal/p2p < internal/p2p/dhtserver;
	manifest, internal/fetch, internal/timeline, internal/kexec < internal/handover;
	internal/durable < internal/oneshot;
	manifest < internal/verity;
	internal/bootcfg, internal/netup, internal/discover, internal/trust, internal/fetch,
	internal/store, internal/handover, internal/timeline, internal/portal
	< internal/boot;

	# The node's rooms.
	internal/job, internal/fuel < internal/wasm;
	internal/job, internal/wasm, quorum, internal/store, internal/durable, internal/metrics < internal/node;
	internal/job, internal/peer, receipt < internal/jobpeer;
	internal/jobpeer, schemas < internal/jobapi;
	internal/jobpeer, internal/fuel, quorum < internal/dispatch;
	internal/store, manifest, receipt, internal/durable, internal/metrics < internal/provider;
	internal/job, quorum < internal/statuspage/claims;
	internal/statuspage/claims < internal/statuspage/verifier;
	internal/statuspage/claims, internal/durable < internal/statuspage;
	internal/durable < internal/statuspage/pack;

	# The publisher's rooms.
	blob, internal/kmod, internal/durable, internal/delta < internal/image;
	blob, internal/durable < internal/debpkg;
	dsse, internal/durable, internal/strictjson < internal/keyfile;
	internal/pefile < internal/uki;
	internal/pefile, internal/keyfile, internal/durable, internal/guid < internal/secureboot;
	internal/image, internal/debpkg, internal/verity, manifest, media, internal/uki, internal/secureboot < internal/system;
	blob, dsse, internal/durable < internal/sums;
	manifest, internal/strictjson < internal/mediacheck;
	internal/system < internal/bom;
	logproof, internal/durable < internal/translog;
	manifest, internal/durable, internal/keyfile, internal/delta, internal/verity, internal/sums
	< internal/release;
	internal/vm < internal/doctor;
	internal/diskformat < internal/appliance;
	NONE < packaging;
	packaging < internal/deb;
	blob, internal/term, internal/disks < internal/stick;

	# A publisher, a provider and a machine on one computer: demo, tests, benchmark.
	internal/release, internal/system, internal/vm, internal/handover, internal/job, receipt,
	examples, media
	< internal/lab;

	# Commands.
	NONE < cmd/internal/manual, cmd/internal/typo;
	manifest, internal/trust, internal/discover, internal/fetch, internal/store, internal/term,
	internal/portal, internal/bootcfg, internal/tor, internal/version, internal/failure, cmd/internal/manual, cmd/internal/typo
	< cmd/internal/steps;
	internal/sysinit, internal/netup, internal/bootcfg, internal/term, internal/timeline,
	internal/wifi
	< cmd/internal/pid1;
	internal/dialog < cmd/phase-pid1;
	cmd/internal/steps < cmd/phase-verify, cmd/phase-fetch;
	cmd/internal/steps, internal/p2p, internal/mdns < cmd/phase-discover;
	cmd/internal/steps, cmd/internal/pid1, internal/boot, internal/p2p, internal/mdns,
	internal/nettime, internal/version, internal/dialog, internal/oneshot
	< cmd/phase-init;
	cmd/internal/pid1, internal/handover, internal/trust, internal/durable, internal/verity, internal/oneshot,
	internal/lines
	< cmd/node-init;
	internal/node, internal/jobapi, internal/jobpeer, internal/provider, internal/p2p/dhtserver, internal/mdns, internal/fetch,
	internal/timeline, internal/version, internal/sysinit, internal/sdnotify, internal/statuspage, cmd/internal/manual, cmd/internal/typo
	< cmd/plasmd;
	internal/wasm, internal/version < cmd/plasm-jail;
	internal/release, internal/translog, internal/term, internal/secureboot, internal/failure, cmd/internal/typo < cmd/internal/ceremony;
	internal/lab, internal/jobapi, internal/dispatch, internal/appliance, internal/stick, internal/doctor, internal/bootcfg, internal/term, internal/version, cmd/internal/ceremony, internal/bom, internal/mediacheck, internal/deb, cmd/internal/manual, cmd/internal/steps
	< cmd/phase;
	internal/job < examples/hello;
	NONE < examples/checksum, examples/fractal;

	# Whole machines.
	NONE < test/net, test/node, test/page, test/reader, test/quickstart, test/fuzz, test/pictures, test/bench/delay, test/bench/kernels, test/bench/table, test/vm/look;
	internal/p2p/dhtserver < test/bench/nodes;
	internal/wasm < test/fuel;
	internal/p2p < test/bench/client;
	internal/lab, internal/diskformat < test/vm;
	internal/deb < test/deb;
	internal/kexec < test/vm/hop;
	internal/debpkg < test/peers;
	internal/lab, internal/stick, test/bench/delay, internal/delta, internal/release, test/peers, internal/node, internal/wasmbuild, internal/jobapi, internal/dispatch, internal/p2p < test/bench;

	# Helpers of tests.
	internal/discover < internal/discover/discovertest;
	internal/fetch < internal/fetch/fetchtest;
	NONE < internal/wasm/wasmtest, internal/pefile/pefiletest, internal/nettime/nettimetest, internal/nettest;
	internal/system, internal/sysinit, internal/vm < internal/guest;
`

// A wall keeps a foreign module inside the packages that may import it.
type wall struct {
	module  string   // import path prefix
	allowed []string // packages of ours, as path prefixes
	why     string
}

// walls name every foreign module this project imports. The longest matching
// module decides.
var walls = []wall{
	{"github.com/libp2p", []string{"internal/p2p"}, "20 MB of binary and 100 modules: one room only"},
	{"github.com/ipfs", []string{"internal/p2p"}, "comes with the DHT"},
	{"github.com/multiformats", []string{"internal/p2p"}, "comes with libp2p"},
	{"github.com/tetratelabs/wazero", []string{"internal/wasm"}, "guest code has one door"},
	{"github.com/go-json-experiment/json", []string{"internal/strictjson", "internal/timeline"}, "strict parsing is wrapped once; timeline has a form of its own"},
	{"github.com/vishvananda/netlink", []string{"internal/netup", "test/bench/delay", "internal/nettest"}, "only the bring-up configures networks, and tests their own"},
	{"github.com/insomniacslk/dhcp", []string{"internal/netup"}, "DHCP belongs to the bring-up"},
	{"github.com/pelletier/go-toml", []string{"internal/bootcfg"}, "TOML is what people write, read in one place"},
	{"github.com/klauspost/compress", []string{"internal/image", "internal/system", "internal/delta", "internal/kexec", "internal/mediacheck"}, "the kernel decompresses; the builder and patches compress, and kexec unpacks packed arm64 kernels"},
	{"github.com/spf13/cobra", []string{"cmd"}, "flags are the commands' business"},
	{"github.com/spf13/pflag", []string{"cmd/internal/manual", "cmd/internal/typo"}, "cobra's flags, for the pages that list them and for what is close to one"},
	{"github.com/CycloneDX", []string{"internal/bom"}, "the form of bills of materials"},
	{"filippo.io/age", []string{"internal/keyfile"}, "private keys at rest are read and written in one place"},
	{"golang.org/x/mod", []string{"logproof", "internal/translog"}, "signed notes and Merkle trees"},
	{"github.com/beevik", []string{"internal/nettime"}, "network time has one door"},
	{"golang.org/x/net", []string{"internal/tor"}, "SOCKS: everything that goes through Tor has one door"},
	{"golang.org/x/term", []string{"cmd", "internal/sysinit", "internal/term"}, "terminals"},
	{"golang.org/x/time", []string{"internal/provider"}, "a limit of bytes per second, for whoever serves"},
	{"golang.org/x/sys", []string{"cmd", "internal", "test/bench", "test/vm/hop", "test/vm/look"}, "system calls; never in the public verifier"},
	{"github.com/rogpeppe/go-internal/testscript", []string{"cmd"}, "commands tested as people type them"},
}

// noLibp2p are commands that must stay free of libp2p even through others.
var noLibp2p = []string{"cmd/phase", "cmd/phase-pid1", "cmd/node-init", "cmd/plasm-jail", "cmd/phase-verify", "cmd/phase-fetch"}

type listedPackage struct {
	ImportPath string
	Dir        string
	GoFiles    []string
	Imports    []string
	Deps       []string
}

func TestImportLaw(t *testing.T) {
	law, err := parseLaw(importLaw)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range listPackages(t) {
		name := ourName(p.ImportPath)
		if name == "." {
			continue
		}
		may, known := law[name]
		if !known {
			t.Errorf("%s: not named in the import law", name)
			continue
		}
		for _, imp := range p.Imports {
			if err := allowed(name, imp, may); err != nil {
				t.Error(err)
			}
		}
	}
}

// allowed says whether package name, which may import the packages of may,
// is allowed to import imp.
func allowed(name, imp string, may map[string]bool) error {
	if strings.HasPrefix(imp, modulePath) {
		if target := ourName(imp); !may[target] {
			return fmt.Errorf("%s imports %s: the import law does not allow it", name, target)
		}
		return nil
	}
	if !strings.Contains(strings.SplitN(imp, "/", 2)[0], ".") {
		return nil // standard library
	}
	var best *wall
	for i, w := range walls {
		if under(imp, w.module) && (best == nil || len(w.module) > len(best.module)) {
			best = &walls[i]
		}
	}
	if best == nil {
		return fmt.Errorf("%s imports %s: no wall names this module", name, imp)
	}
	for _, a := range best.allowed {
		if under(name, a) {
			return nil
		}
	}
	return fmt.Errorf("%s imports %s, which belongs to %v: %s", name, imp, best.allowed, best.why)
}

// noServer are commands that ask the DHT and must not carry what answers it.
var noServer = []string{"cmd/phase-init", "cmd/phase-discover", "test/bench/client"}

// heavyParts are what only a server of the DHT needs.
var heavyParts = []string{"github.com/libp2p/go-libp2p-kad-dht", "github.com/libp2p/go-libp2p/p2p/host/basic"}

func TestCommandsWithoutLibp2p(t *testing.T) {
	for _, p := range listPackages(t) {
		asks := slices.Contains(noServer, ourName(p.ImportPath))
		if !asks && !slices.Contains(noLibp2p, ourName(p.ImportPath)) {
			continue
		}
		for _, dep := range p.Deps {
			if slices.Contains(heavyParts, dep) || !asks && under(dep, "github.com/libp2p/go-libp2p") {
				t.Errorf("%s depends on %s", ourName(p.ImportPath), dep)
				break
			}
		}
	}
}

// testHelpers read from the environment what a tester demands.
var testHelpers = []string{"internal/nettest", "internal/guest"}

// TestHouseRules reads the syntax of every package outside cmd: no process
// exit, no environment, no flags, no init functions, and no clock where time
// is an argument.
func TestHouseRules(t *testing.T) {
	timeless := []string{"blob", "dsse", "manifest", "receipt", "quorum", "internal/trust"}
	for _, p := range listPackages(t) {
		name := ourName(p.ImportPath)
		if under(name, "cmd") || under(name, "examples") || under(name, "test") || slices.Contains(testHelpers, name) {
			continue
		}
		for _, file := range p.GoFiles {
			for _, broken := range brokenRules(t, filepath.Join(p.Dir, file), slices.Contains(timeless, name)) {
				t.Error(broken)
			}
		}
	}
}

// brokenRules lists the house rules that one file breaks, each with its place.
func brokenRules(t *testing.T, file string, timeless bool) []string {
	t.Helper()
	forbidden := map[string]string{
		"os.Exit": "only commands exit", "os.Getenv": "only commands read the environment",
		"os.LookupEnv": "only commands read the environment",
		"flag.Parse":   "only commands have flags",
	}
	if timeless {
		for _, clock := range []string{"time.Now", "time.Since", "time.Until"} {
			forbidden[clock] = "time is an argument here"
		}
	}
	fset := token.NewFileSet()
	syntax, err := parser.ParseFile(fset, file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var broken []string
	ast.Inspect(syntax, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			if n.Recv == nil && n.Name.Name == "init" {
				broken = append(broken, fmt.Sprintf("%s: init function", fset.Position(n.Pos())))
			}
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok {
				if why, bad := forbidden[x.Name+"."+n.Sel.Name]; bad {
					broken = append(broken, fmt.Sprintf("%s: %s.%s: %s", fset.Position(n.Pos()), x.Name, n.Sel.Name, why))
				}
			}
		}
		return true
	})
	return broken
}

// TestFuzzTargetsHaveSeeds fails where a fuzz target lost its corpus, for
// instance because a folder moved: it would fuzz from nothing in silence.
func TestFuzzTargetsHaveSeeds(t *testing.T) {
	targets := 0
	err := filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(file, "_test.go") {
			return err
		}
		source, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		for _, line := range strings.Split(string(source), "\n") {
			name, ok := strings.CutPrefix(line, "func Fuzz")
			if !ok {
				continue
			}
			targets++
			name, _, _ = strings.Cut(name, "(")
			corpus := filepath.Join(filepath.Dir(file), "testdata", "fuzz", "Fuzz"+name)
			if seeds, err := os.ReadDir(corpus); err != nil || len(seeds) == 0 {
				t.Errorf("%s: no seeds in %s", file, corpus)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if targets == 0 {
		t.Error("no fuzz target found")
	}
}

// parseLaw turns the text into, for each package, the set it may import.
func parseLaw(text string) (map[string]map[string]bool, error) {
	law := map[string]map[string]bool{}
	var clean strings.Builder
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		clean.WriteString(strings.TrimSpace(line) + " ")
	}
	for rule := range strings.SplitSeq(clean.String(), ";") {
		if strings.TrimSpace(rule) == "" {
			continue
		}
		low, high, ok := strings.Cut(rule, "<")
		if !ok {
			return nil, fmt.Errorf("rule without '<': %s", rule)
		}
		for h := range strings.SplitSeq(high, ",") {
			h = strings.TrimSpace(h)
			if law[h] == nil {
				law[h] = map[string]bool{}
			}
			for l := range strings.SplitSeq(low, ",") {
				if err := addRule(law, h, strings.TrimSpace(l)); err != nil {
					return nil, err
				}
			}
		}
	}
	return law, nil
}

// addRule lets high import low and all that low may import. Rules read from
// the bottom up, so low is known before it is used: that also rules out cycles.
func addRule(law map[string]map[string]bool, high, low string) error {
	if low == "NONE" {
		return nil
	}
	below, known := law[low]
	if !known {
		return fmt.Errorf("%s is used before its own rule", low)
	}
	law[high][low] = true
	for b := range below {
		law[high][b] = true
	}
	return nil
}

func listPackages(t *testing.T) []listedPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,GoFiles,Imports,Deps", "./...")
	cmd.Env = append(os.Environ(), "GOOS=linux")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var packages []listedPackage
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listedPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}

// ourName is the import path below the module; the root is ".".
func ourName(importPath string) string {
	return path.Clean(strings.TrimPrefix(strings.TrimPrefix(importPath, modulePath), "/"))
}

// under reports whether p is prefix or lies below it.
func under(p, prefix string) bool {
	return p == prefix || strings.HasPrefix(p, prefix+"/")
}
