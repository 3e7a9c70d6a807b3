package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/phasebased/phase/cmd/internal/pid1"
	"github.com/phasebased/phase/internal/bootcfg"
	"github.com/phasebased/phase/internal/durable"
	"github.com/phasebased/phase/internal/sysinit"
)

// A root file system may bring an init of its own. Then this program has done its
// work when that root is mounted: it leaves what it knows in /run and becomes that
// init. Nothing of ours runs from then on but what the system itself starts.

// inits are the programs that a root file system may bring to run as PID 1, in the
// kernel's order (init/main.c), but for the shell that the kernel would end with. A
// command line cannot name another: init= is not allowed in manifests.
var inits = []string{"/sbin/init", "/etc/init", "/bin/init"}

const (
	plasmdFile  = "/usr/bin/plasmd"
	plasmdEnv   = pid1.RunDir + "/plasmd.env"
	networkdDir = "/run/systemd/network"
)

// ownInit is the init of a root file system, "" where plasmd is all it brings. It
// asks by stat, in the root that was entered.
func ownInit(stat func(string) (fs.FileInfo, error)) (string, error) {
	runs := func(path string) bool {
		info, err := stat(path)
		return err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0
	}
	for _, path := range inits {
		if runs(path) {
			return path, nil
		}
	}
	if !runs(plasmdFile) {
		return "", &NoInitError{}
	}
	return "", nil
}

// NoInitError says that a root file system brings nothing that could run.
type NoInitError struct{}

func (*NoInitError) Error() string {
	return "the root file system has no program to start: none of " + strings.Join(inits, ", ") + ", and no " + plasmdFile
}

// Code is the error's number in docs/codes.md.
func (*NoInitError) Code() string { return "NODE-041" }

// Hint says what to do next.
func (*NoInitError) Hint() string {
	return "Its publisher has to install an init, such as Debian's package systemd-sysv."
}

// become hands this machine to the init of the root file system that was entered.
// It returns only on failure.
func (n *node) become(ctx context.Context, init string) error {
	// The network is the system's own business from here on.
	n.leaving.Store(true)
	if err := n.manager.Down(); err != nil {
		n.system.Log.Warn("network down", "error", err)
	}
	if err := sysinit.SetHostname("phase"); err != nil { // until /etc/hostname says otherwise
		n.system.Log.Warn("host name", "error", err)
	}
	if err := os.MkdirAll(stateDir, 0o700); err != nil {
		return err
	}
	ephemeral := n.openState(ctx)
	if err := n.publish(); err != nil {
		n.system.Log.Warn("what was booted cannot be offered to others", "error", err)
	}
	if err := n.leaveNotes(ephemeral); err != nil {
		return err
	}
	// Nobody else could tell the medium: this is how far a system with its own init
	// must come to be one to go back to.
	n.confirm()
	n.system.Console.Linef("The system brings its own init: %s takes over.", init)
	n.system.Flush(2 * time.Second)
	err := syscall.Exec(init, append([]string{init}, os.Args[1:]...), os.Environ())
	return fmt.Errorf("start %s: %w", init, err)
}

// leaveNotes writes what this system may want to know, and the options of its
// plasmd, where it has one.
func (n *node) leaveNotes(ephemeral bool) error {
	if n.info.SchemaVersion != 0 {
		// It holds no secrets; not everybody who wants to know is root here.
		if err := os.Chmod(bootedFile, 0o644); err != nil {
			return err
		}
	}
	args, err := n.plasmdArgs(ephemeral)
	if err != nil {
		return err
	}
	if port, err := sysinit.ReportDevice(os.DirFS("/sys"), pid1.ReportPort); err == nil {
		args = append(args, "--events", port)
	}
	if err := os.MkdirAll(pid1.RunDir, 0o755); err != nil {
		return err
	}
	env := "PHASE_ARGS=" + strings.Join(args, " ") + "\n"
	if err := durable.WriteFile(plasmdEnv, []byte(env), 0o644); err != nil {
		return err
	}
	return n.leaveNetwork()
}

// leaveNetwork writes the medium's network settings for systemd-networkd; other
// systems pass them over. Name servers that somebody set are written to
// /etc/resolv.conf as well where the system has none.
func (n *node) leaveNetwork() error {
	network := n.network()
	if err := os.MkdirAll(networkdDir, 0o755); err != nil {
		return err
	}
	for name, text := range networkd(network, n.mode) {
		if err := os.WriteFile(filepath.Join(networkdDir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	servers := nameServers(network)
	if _, err := os.Lstat("/etc/resolv.conf"); !errors.Is(err, os.ErrNotExist) || len(servers) == 0 {
		return nil
	}
	text := ""
	for _, server := range servers {
		text += "nameserver " + server.String() + "\n"
	}
	return os.WriteFile("/etc/resolv.conf", []byte(text), 0o644)
}

// maxServers is how many the C library asks (resolv.conf(5), MAXNS).
const maxServers = 3

func nameServers(n bootcfg.Network) (servers []netip.Addr) {
	for _, i := range n.Interfaces {
		servers = append(servers, i.DNS...)
	}
	return servers[:min(len(servers), maxServers)]
}

// plasmdArgs are the options that plasmd gets on this machine, without those that
// say where it reads its configuration and tells its events. None holds a space.
func (n *node) plasmdArgs(ephemeral bool) ([]string, error) {
	args := []string{"--mode", n.mode.String(), "--state", stateDir}
	if n.info.SchemaVersion != 0 {
		args = append(args, "--booted", bootedFile)
	}
	if ephemeral {
		args = append(args, "--ephemeral")
	}
	if n.proxy != "" { // it may hold a password, which arguments would show
		if err := durable.WriteFile(proxyFile, []byte(n.proxy), 0o600); err != nil {
			return nil, err
		}
		args = append(args, "--proxy-file", proxyFile)
	}
	if n.published {
		args = append(args, "--publish", publishedDir)
	}
	return args, nil
}
