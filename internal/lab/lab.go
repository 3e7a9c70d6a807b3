// Package lab is a publisher, a provider and a machine on one computer: it
// builds the systems, signs releases, serves them with plasmd, boots media in
// virtual machines and watches what they say. The demo, the tests of the whole
// boot and the benchmark use it, so what a person is shown is what is tested.
//
// Nothing here is part of the product's trust: the machines decide for
// themselves, from the root keys inside their media.
package lab

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/examples"
	"github.com/phasebased/phase/internal/durable"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/release"
	"github.com/phasebased/phase/internal/strictjson"
	"github.com/phasebased/phase/internal/system"
	"github.com/phasebased/phase/manifest"
)

// Channel is the channel the lab publishes on.
const Channel = manifest.ChannelStable

// HelloText is what the hello job is given, HelloAnswer what it must write.
const (
	HelloText   = "Hello, World"
	HelloAnswer = "dlroW ,olleH"
)

// HelloJobPath is where node systems have the hello job.
const HelloJobPath = "/usr/share/phase/jobs/hello.json"

// Config says what to build with. All fields are required unless they say
// otherwise.
type Config struct {
	Arch       string // x86_64 or arm64
	Target     string // folder with phase-pid1, phase-init, node-init and plasmd for Arch
	Plasmd     string // plasmd for this machine
	Work       string // folder for packages, outputs, keys and runs; kept between calls
	Version    string
	Time       time.Time      // every date inside the products; the earliest clock of a seed
	MinVersion int64          // version floor built into the seed; 0: none
	Root       []byte         // root.json that media trust; nil: that of the work folder's keys, which alone can publish
	LogPolicy  []byte         // C2SP tlog-policy that the seed holds releases to; nil: none
	Flavour    system.Flavour // for which machines, as system.Sources
	Files      system.Files   // what is not to come from packages
	WiFi       bool           // seed and node can join wireless networks
	Firmware   []string       // packages with firmware of devices, and folders, as system.Sources
	Shell      bool           // the seed's menu offers a shell
	Tor        bool           // the seed can boot through Tor
	Kernel     string         // kernel package; "": the distribution's of the flavour
	Format     string         // of the node's root file system, as system.NodeConfig
	NoVerity   bool           // the node's root file system gets no hash tree
	NodeConfig []byte         // the node's configuration, as plasmd's file; nil: its defaults. The hello job is run if it names no boot_jobs
	MediumOnly bool           // build the seed, and no node system to publish
	Offline    bool           // no package downloads
	Log        *slog.Logger   // nil: silent
}

// Lab holds what one publisher has built.
type Lab struct {
	cfg   Config
	Keys  *release.Keys // nil with Config.Root
	Root  []byte        // root.json that media and releases of this lab carry
	build *system.Build
	from  system.Sources // of the build's inputs

	Seed  string            // the seed's initramfs
	Node  system.NodeSystem // what is published
	Hello string            // the hello job's module
	Built map[string]system.Output

	rot *sync.Map // see Rot: files, a []string, by published folder; tests publish at the same time
}

// New gathers the foreign parts, makes keys if there are none, and builds seed
// and node system. What is unchanged since an earlier call is reused.
func New(ctx context.Context, cfg Config) (*Lab, error) {
	keys, root, err := cfg.trust()
	if err != nil {
		return nil, err
	}
	from := system.Sources{
		Arch: cfg.Arch, Dir: filepath.Join(cfg.Work, "inputs"), Offline: cfg.Offline, Log: cfg.Log,
		Flavour: cfg.Flavour, Files: cfg.Files, WiFi: cfg.WiFi, Tor: cfg.Tor, Shell: cfg.Shell, Firmware: cfg.Firmware, KernelPackage: cfg.Kernel,
	}
	inputs, err := system.Prepare(ctx, from)
	if err != nil {
		return nil, err
	}
	l := &Lab{cfg: cfg, from: from, Keys: keys, Root: root, Built: map[string]system.Output{}, rot: new(sync.Map), build: &system.Build{
		Inputs: inputs, Version: cfg.Version, Time: cfg.Time, MinVersion: cfg.MinVersion, Reuse: filepath.Join(cfg.Work, "reuse"), Log: cfg.Log,
	}}
	return l, l.buildSystems(ctx)
}

// trust is the root that media carry, with the keys that it names, if they are here.
func (cfg Config) trust() (*release.Keys, []byte, error) {
	if cfg.Root != nil {
		if !cfg.MediumOnly {
			return nil, nil, errors.New("only media can be built for the root of somebody else: releases need its keys")
		}
		if _, err := manifest.ParseRoot(cfg.Root); err != nil {
			return nil, nil, fmt.Errorf("the root that media are to trust: %w", err)
		}
		return nil, cfg.Root, nil
	}
	keys, err := release.LoadOrCreateKeys(filepath.Join(cfg.Work, "keys"))
	if err != nil {
		return nil, nil, err
	}
	// Ten years, from a fixed day: the same keys must give the same image.
	root, err := keys.RootFile(cfg.Time.AddDate(10, 0, 0))
	return keys, root, err
}

func (l *Lab) buildSystems(ctx context.Context) error {
	out := l.out()
	l.Seed, l.Hello = filepath.Join(out, "seed.img"), filepath.Join(out, "hello.wasm")
	if err := os.MkdirAll(out, 0o755); err != nil {
		return fmt.Errorf("make the output folder: %w", err)
	}
	if err := durable.WriteFile(l.Hello, examples.Hello, 0o644); err != nil {
		return fmt.Errorf("write the hello job: %w", err)
	}
	seed, err := l.buildSeed(ctx)
	if err != nil {
		return err
	}
	l.Built["seed"] = seed
	if l.cfg.MediumOnly {
		return nil
	}
	l.Node, err = l.buildNode(ctx, out, nil)
	l.Built["kernel"] = l.Node.Kernel
	l.Built["initramfs"], l.Built["rootfs"] = l.Node.Initramfs, l.Node.Rootfs
	return err
}

// buildNode builds the node system into a folder, with further files beside the
// hello job.
func (l *Lab) buildNode(ctx context.Context, dir string, more map[string][]byte) (system.NodeSystem, error) {
	helloJob, err := HelloJob()
	if err != nil {
		return system.NodeSystem{}, err
	}
	jobs := map[string][]byte{"hello.json": helloJob}
	maps.Copy(jobs, more)
	config, err := l.cfg.nodeConfig()
	if err != nil {
		return system.NodeSystem{}, fmt.Errorf("write the node's configuration: %w", err)
	}
	jail := filepath.Join(l.cfg.Target, "plasm-jail")
	if _, err := os.Stat(jail); err != nil {
		jail = "" // plasmd does without
	}
	return l.build.Node(ctx, system.NodeConfig{
		Dir: dir, Init: filepath.Join(l.cfg.Target, "node-init"), Plasmd: filepath.Join(l.cfg.Target, "plasmd"), Jail: jail,
		Config: config, Jobs: jobs, WiFi: l.cfg.WiFi, Format: l.cfg.Format, NoVerity: l.cfg.NoVerity,
	})
}

// nodeConfig is the node's configuration file: the one that was given, with the hello
// job if it does not say what to run.
func (cfg Config) nodeConfig() ([]byte, error) {
	const jobs = "boot_jobs"
	keys := map[string]strictjson.Raw{}
	if cfg.NodeConfig != nil {
		if err := strictjson.Unmarshal(cfg.NodeConfig, &keys, strictjson.Limits{Bytes: 64 << 10, Depth: 4, RejectNull: true}); err != nil {
			return nil, err
		}
	}
	if _, said := keys[jobs]; !said {
		keys[jobs] = strictjson.Raw(`["` + HelloJobPath + `"]`)
	}
	return strictjson.MarshalCanonical(keys)
}

// Changed is the same lab with another node system, whose root file system has
// one more file, as the next release of a publisher might.
func (l *Lab) Changed(ctx context.Context, content []byte) (*Lab, error) {
	dir := filepath.Join(l.out(), "changed")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the output folder: %w", err)
	}
	changed := *l
	var err error
	changed.Node, err = l.buildNode(ctx, dir, map[string][]byte{"another.json": content})
	return &changed, err
}

// Formatted is the same lab with another node system, whose root file system is of
// a format, with or without a hash tree.
func (l *Lab) Formatted(ctx context.Context, format string, verity bool) (*Lab, error) {
	formatted := *l
	formatted.cfg.Format, formatted.cfg.NoVerity = format, !verity
	dir := filepath.Join(l.out(), fmt.Sprintf("%s-%v", format, verity))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the output folder: %w", err)
	}
	var err error
	formatted.Node, err = formatted.buildNode(ctx, dir, nil)
	return &formatted, err
}

func (l *Lab) buildSeed(ctx context.Context) (system.Output, error) {
	seed, _, err := l.build.Seed(ctx, system.SeedConfig{
		Out: l.Seed, Pid1: filepath.Join(l.cfg.Target, "phase-pid1"), Init: filepath.Join(l.cfg.Target, "phase-init"), Root: l.Root, LogPolicy: l.cfg.LogPolicy, WiFi: l.cfg.WiFi, Tor: l.cfg.Tor, Shell: l.cfg.Shell,
	})
	return seed, err
}

// Logged is the same lab with another seed: its media hold releases to the logs
// of a C2SP tlog-policy.
func (l *Lab) Logged(ctx context.Context, policy []byte) (*Lab, error) {
	logged := *l
	logged.cfg.LogPolicy = policy
	logged.Seed = strings.TrimSuffix(l.Seed, ".img") + "-logged.img"
	_, err := logged.buildSeed(ctx)
	return &logged, err
}

// Trusting is the same lab with another seed: its media trust a further
// certificate authority, in PEM, wherever they trust those of the Web.
func (l *Lab) Trusting(ctx context.Context, authority []byte) (*Lab, error) {
	inputs, build, trusting := *l.build.Inputs, *l.build, *l
	inputs.CACerts = slices.Concat(inputs.CACerts, authority)
	build.Inputs, build.Reuse = &inputs, "" // not likely to be wanted twice
	trusting.build = &build
	trusting.Seed = strings.TrimSuffix(l.Seed, ".img") + "-trusting.img"
	_, err := trusting.buildSeed(ctx)
	return &trusting, err
}

// HelloJob is the specification of the hello job.
func HelloJob() ([]byte, error) {
	hello, err := job.New(job.Spec{
		Version: job.SpecVersion, Module: blob.Of(examples.Hello), Args: []string{HelloText},
	})
	if err != nil {
		return nil, fmt.Errorf("specify the hello job: %w", err)
	}
	return hello.Payload(), nil
}

// Release is a release of the node system as the lab publishes it by default:
// valid now, found at base, for a caller to change.
func (l *Lab) Release(version int64, base string) release.Release {
	now := time.Now().UTC().Truncate(time.Second)
	return release.Release{
		Channel: Channel, Arch: l.cfg.Arch, Version: version,
		Created: now.Add(-time.Minute), Expires: now.AddDate(0, 0, 90), PointerExpiry: now.AddDate(0, 0, 7),
		Kernel: l.Node.Kernel.Path, Initramfs: l.Node.Initramfs.Path, Rootfs: l.Node.Rootfs.Path, Verity: l.Node.Verity,
		Cmdline: l.cmdline(), Blobs: []string{l.Hello}, Bases: []string{base},
	}
}

// cmdline is the node's kernel command line.
func (l *Lab) cmdline() string { return l.options("panic=30") }

// out is the folder for what is built: labs for other machines may share the rest.
func (l *Lab) out() string {
	name := l.cfg.Arch
	if l.Flavour() != system.FlavourCloud {
		name += "-" + string(l.Flavour())
	}
	return filepath.Join(l.cfg.Work, "out", name)
}

// SeedLimit is how large the seed may be, in bytes.
func (l *Lab) SeedLimit() int64 {
	return l.build.SeedLimit(system.SeedConfig{WiFi: l.cfg.WiFi, Tor: l.cfg.Tor, Shell: l.cfg.Shell})
}

// SeedPrograms are the files of ours that a seed consists of.
func (l *Lab) SeedPrograms() []string {
	return []string{filepath.Join(l.cfg.Target, "phase-pid1"), filepath.Join(l.cfg.Target, "phase-init")}
}

// Flavour says for which machines the lab builds.
func (l *Lab) Flavour() system.Flavour { return l.build.Inputs.Flavour }

// Arch is the architecture of the lab's machines.
func (l *Lab) Arch() string { return l.cfg.Arch }

// KernelRelease is the kernel's, as in uname -r.
func (l *Lab) KernelRelease() string { return l.build.Inputs.Kernel.Release }

// Time is the date of everything that the lab builds.
func (l *Lab) Time() time.Time { return l.cfg.Time }

// KeyText shows an Ed25519 public key as people compare it.
func KeyText(key ed25519.PublicKey) string { return fmt.Sprintf("ed25519:%x", []byte(key)) }
