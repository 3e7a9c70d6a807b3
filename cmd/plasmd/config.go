package main

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/phasebased/phase/internal/discover"
	"github.com/phasebased/phase/internal/durable"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/p2p"
	"github.com/phasebased/phase/internal/strictjson"
)

// systemConfig is where a node system keeps its configuration.
const systemConfig = "/etc/plasm/config.json"

// maxConfig bounds a configuration file.
const maxConfig = 64 << 10

// config is the daemon's configuration file. An unknown key is an error.
type config struct {
	ListenAddrs       []string     `json:"listen_addrs"`        // multiaddrs to be reachable on; empty: do not listen
	PeerAddrs         []string     `json:"peer_addrs"`          // peers to stay connected to, as …/p2p/<id>
	BootstrapPeers    []string     `json:"bootstrap_peers"`     // peers to join the network through, as …/p2p/<id>
	MaxConcurrentJobs int          `json:"max_concurrent_jobs"` // jobs that run at once; eight times as many wait
	Limits            configLimits `json:"limits"`              // caps of every job: one that asks for more is refused
	BootJobs          []string     `json:"boot_jobs"`           // job files run once after the start
	Providers         []string     `json:"providers"`           // base URLs to fetch modules from and deliver receipts to
	JobSocket         string       `json:"job_socket"`          // Unix socket for jobs; empty: in the usual place; none: do without
	Submitters        []string     `json:"submitters"`          // keys whose signed jobs are run, as ed25519:<hex>; nobody else's
	RequireSigned     bool         `json:"require_signed"`      // also those at this machine must sign
	MaxPerSubmitter   int          `json:"max_per_submitter"`   // jobs of one submitter that run or wait; 0: no quota
	JobsPerJail       int          `json:"jobs_per_jail"`       // jobs of one submitter that one jail may serve in turn; 1: every job gets a new one
	RequiredWalls     []string     `json:"required_walls"`      // walls around jobs without which none is run, as receipts name them; "all" stands for all of them
	ServePort         int64        `json:"serve_port"`          // HTTP port to offer to others what this machine booted; 0: do not
	MetricsAddr       string       `json:"metrics_addr"`        // address and TCP port of GET /metrics; empty: do without
	PageAddr          string       `json:"page_addr"`           // address and TCP port of the status page; empty: do without
	PageTokenFile     string       `json:"page_token_file"`     // file with the page's token; empty: none on loopback, page.token in the state folder elsewhere
	PageHosts         []string     `json:"page_hosts"`          // names under which browsers may ask for the page, and scrapers for the figures, beside localhost and addresses
}

type configLimits struct {
	MaxMemoryBytes    int64 `json:"max_memory_bytes"`    // memory of a job
	MaxCPUCores       int64 `json:"max_cpu_cores"`       // a job has one thread, so 1 is all there is
	MaxTimeoutSeconds int64 `json:"max_timeout_seconds"` // from a job's start in the sandbox
	MaxFuel           int64 `json:"max_fuel"`            // fuel of a job, which docs/jobs.md explains
	MaxInputBytes     int64 `json:"max_input_bytes"`     // all inputs of a job together
}

// queuePerSlot is how many jobs may wait for each that runs.
const queuePerSlot = 8

func defaultConfig() config {
	return config{
		ListenAddrs:       []string{"/ip4/0.0.0.0/tcp/4001", "/ip6/::/tcp/4001"},
		PeerAddrs:         []string{},
		BootstrapPeers:    []string{},
		MaxConcurrentJobs: 4,
		Limits: configLimits{
			MaxMemoryBytes:    job.DefaultNodeLimits.MemoryBytes,
			MaxCPUCores:       1,
			MaxTimeoutSeconds: job.DefaultNodeLimits.DeadlineMS / 1000,
			MaxFuel:           job.DefaultNodeLimits.Fuel,
			MaxInputBytes:     job.DefaultNodeLimits.InputBytes,
		},
		BootJobs:  []string{},
		Providers: []string{},

		Submitters:      []string{},
		MaxPerSubmitter: 2 * queuePerSlot,
		JobsPerJail:     1,
		RequiredWalls:   []string{},

		ServePort:   8080,
		MetricsAddr: "127.0.0.1:4002",
		PageAddr:    "127.0.0.1:4003",
		PageHosts:   []string{},
	}
}

// configError says which file is wrong, and where.
type configError struct {
	path string
	err  error
}

func (e *configError) Error() string { return fmt.Sprintf("configuration %s: %v", e.path, e.err) }
func (e *configError) Unwrap() error { return e.err }

// Code is NODE-021.
func (e *configError) Code() string { return "NODE-021" }

// Hint says what to do next.
func (e *configError) Hint() string {
	return "Correct the file; plasmd init --config FILE writes a correct one to compare with."
}

// userConfig is a person's own configuration file, "" without a home.
func userConfig() string {
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return filepath.Join(home, ".config", "plasm", "config.json")
}

// loadConfig reads the file named, or the first that exists of the person's
// and the system's; without any it gives the default. It also says which file
// it was, "" for none.
func loadConfig(named string) (config, string, error) {
	candidates := []string{userConfig(), systemConfig}
	if named != "" {
		candidates = []string{named}
	}
	for _, path := range candidates {
		if path == "" {
			continue
		}
		raw, err := readBounded(path, maxConfig)
		if errors.Is(err, fs.ErrNotExist) && named == "" {
			continue
		}
		if err != nil {
			return config{}, path, &configError{path, err}
		}
		cfg, err := parseConfig(raw)
		if err != nil {
			return config{}, path, &configError{path, err}
		}
		return cfg, path, nil
	}
	return defaultConfig(), "", nil
}

// parseConfig reads strict JSON over the default: a key that is absent keeps
// its default.
func parseConfig(raw []byte) (config, error) {
	cfg := defaultConfig()
	lim := strictjson.Limits{Bytes: maxConfig, Depth: 4, RejectUnknown: true, RejectNull: true}
	if err := strictjson.Unmarshal(raw, &cfg, lim); err != nil {
		return config{}, err
	}
	return cfg, cfg.check()
}

// number is one of the configuration, and its bounds.
type number struct {
	name             string
	value, low, high int64
}

func (c config) numbers() []number {
	return []number{
		{"max_concurrent_jobs", int64(c.MaxConcurrentJobs), 1, 1024},
		{"limits.max_memory_bytes", c.Limits.MaxMemoryBytes, 64 << 10, 4 << 30},
		{"limits.max_cpu_cores", c.Limits.MaxCPUCores, 1, 1},
		{"max_per_submitter", int64(c.MaxPerSubmitter), 0, 1 << 20},
		{"jobs_per_jail", int64(c.JobsPerJail), 1, 1 << 20},
		{"serve_port", c.ServePort, 0, 65535},
		{"limits.max_timeout_seconds", c.Limits.MaxTimeoutSeconds, 1, 3600},
		{"limits.max_fuel", c.Limits.MaxFuel, 1, 1<<53 - 1},
		{"limits.max_input_bytes", c.Limits.MaxInputBytes, 0, job.MaxInputBytes},
	}
}

func (c config) check() error {
	for _, f := range c.numbers() {
		if f.value < f.low || f.value > f.high {
			return fmt.Errorf("%s is %d, want %d to %d", f.name, f.value, f.low, f.high)
		}
	}
	if _, err := c.submitters(); err != nil {
		return fmt.Errorf("submitters: %w", err)
	}
	if err := c.checkWalls(); err != nil {
		return fmt.Errorf("required_walls: %w", err)
	}
	if err := checkHostPort(c.MetricsAddr); err != nil {
		return fmt.Errorf("metrics_addr: %w", err)
	}
	if err := c.checkPage(); err != nil {
		return err
	}
	for _, addr := range append(append([]string{}, c.BootstrapPeers...), c.PeerAddrs...) {
		if err := p2p.CheckBootstrap(addr); err != nil {
			return err
		}
	}
	for _, base := range c.Providers {
		if err := discover.CheckBase(base); err != nil {
			return fmt.Errorf("providers: %w", err)
		}
	}
	return nil
}

// checkHostPort wants an IP address and a port, such as 127.0.0.1:4002 or [::1]:4002,
// or nothing. A name would be looked up, and might come to stand for the world.
func checkHostPort(text string) error {
	if text == "" {
		return nil
	}
	if _, err := netip.ParseAddrPort(text); err != nil {
		return fmt.Errorf("%.80q is no IP address with a port, such as 127.0.0.1:4002", text)
	}
	return nil
}

// nodeLimits are the caps that the configuration leads to.
func (c config) nodeLimits() job.NodeLimits {
	limits := job.DefaultNodeLimits
	limits.MemoryBytes = c.Limits.MaxMemoryBytes
	limits.DeadlineMS = c.Limits.MaxTimeoutSeconds * 1000
	limits.Fuel = c.Limits.MaxFuel
	limits.InputBytes = c.Limits.MaxInputBytes
	return limits
}

// submitters are the keys whose signed jobs are run.
func (c config) submitters() ([]ed25519.PublicKey, error) {
	var keys []ed25519.PublicKey
	for _, text := range c.Submitters {
		key, err := job.ParseKey(text)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// bootstrap are all peers that the configuration knows.
func (c config) bootstrap() []string {
	return append(append([]string{}, c.BootstrapPeers...), c.PeerAddrs...)
}

func newInit() *cobra.Command {
	var path string
	var force bool
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Write a default configuration",
		Long: `Writes a configuration file in which every key has its default, and prints its name.
What the keys mean is in docs/reference/configuration.md.`,
		Example: "  plasmd init\n  plasmd init --config example.json",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if path == "" {
				path = userConfig()
			}
			if path == "" {
				return usageError{errors.New("there is no home directory; name a file with --config")}
			}
			if _, err := os.Lstat(path); err == nil && !force {
				return fmt.Errorf("%s exists already; --force replaces it", path)
			}
			if err := writeDefault(path); err != nil {
				return err
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), path)
			return err
		},
	}
	cmd.Flags().StringVarP(&path, "config", "c", "", "file to write (default ~/.config/plasm/config.json)")
	cmd.Flags().BoolVar(&force, "force", false, "replace an existing file")
	return cmd
}

func writeDefault(path string) error {
	text, err := json.MarshalIndent(defaultConfig(), "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return durable.WriteFile(path, append(text, '\n'), 0o644)
}
