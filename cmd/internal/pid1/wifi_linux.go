package pid1

import (
	"context"
	"errors"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/phasebased/phase/internal/bootcfg"
	"github.com/phasebased/phase/internal/sysinit"
	"github.com/phasebased/phase/internal/wifi"
)

// Where the program that wireless networks need is, and where its sockets lie.
const (
	wifiProgram = "/usr/sbin/wpa_supplicant"
	wifiDir     = "/run/wifi"
)

// Radios drive the wireless interfaces of this machine. They do nothing where
// the system does not carry wpa_supplicant.
type Radios struct {
	system  *System
	config  bootcfg.WiFi
	random  bool
	program string
	dir     string

	mu      sync.Mutex
	running map[string]*radio // by interface
	stopped bool
}

type radio struct {
	supplicant *wifi.Supplicant
	stop       context.CancelFunc
	ended      chan struct{}
}

// NewRadios starts nothing yet. With random, the cards' own addresses are not
// used.
func (s *System) NewRadios(config bootcfg.WiFi, random bool) *Radios {
	return &Radios{
		system: s, config: config, random: random, program: wifiProgram, dir: wifiDir,
		running: map[string]*radio{},
	}
}

// ErrNoWiFi: there are wireless networks to join, and nothing to do it with.
var ErrNoWiFi = errors.New("the wireless networks of policy.toml are not joined: this system carries no wpa_supplicant")

// Check reports ErrNoWiFi.
func (r *Radios) Check() error {
	if len(r.config.Networks) > 0 && !r.carried() {
		return ErrNoWiFi
	}
	return nil
}

// carried reports whether the program is there.
func (r *Radios) carried() bool {
	info, err := os.Stat(r.program)
	return err == nil && info.Mode().IsRegular()
}

// Interfaces are those that can be driven.
func (r *Radios) Interfaces() []string {
	if !r.carried() {
		return nil
	}
	names, err := wifi.Interfaces(os.DirFS("/sys"))
	if err != nil {
		r.system.Log.Warn("wireless interfaces", "error", err)
	}
	return names
}

// Found starts to drive an interface that has appeared, if it is wireless and
// there are networks to join.
func (r *Radios) Found(ctx context.Context, name string) {
	r.mu.Lock()
	stopped := r.stopped
	r.mu.Unlock()
	if !stopped && len(r.config.Networks) > 0 && slices.Contains(r.Interfaces(), name) {
		r.Start(ctx, name)
	}
}

// Start drives an interface until Stop or the end of ctx; once it does, it
// returns the same again.
func (r *Radios) Start(ctx context.Context, name string) *wifi.Supplicant {
	r.mu.Lock()
	defer r.mu.Unlock()
	if running := r.running[name]; running != nil {
		return running.supplicant
	}
	cfg := wifi.Config{
		Interface: name, Country: r.config.Country, RandomMAC: r.random, Program: r.program, RunDir: r.dir,
		Start: r.system.startProgram, Report: r.report,
	}
	for _, n := range r.config.Networks {
		cfg.Networks = append(cfg.Networks, WiFiNetwork(n))
	}
	supplicant := wifi.New(cfg)
	if r.stopped {
		return supplicant // which answers nothing
	}
	ctx, stop := context.WithCancel(ctx)
	started := &radio{supplicant, stop, make(chan struct{})}
	r.running[name] = started
	r.system.Go("Wi-Fi on "+name, func() error {
		defer close(started.ended)
		return supplicant.Run(ctx)
	})
	return supplicant
}

// WiFiNetwork is a network of the configuration as package wifi takes it.
func WiFiNetwork(n bootcfg.WiFiNetwork) wifi.Network {
	return wifi.Network{SSID: n.SSID, Passphrase: string(n.Passphrase), Hidden: n.Hidden}
}

// Stop lets go of all interfaces, for good, and waits until that is done.
func (r *Radios) Stop() {
	r.mu.Lock()
	running := r.running
	r.running, r.stopped = nil, true
	r.mu.Unlock()
	for _, radio := range running {
		radio.stop()
		<-radio.ended
	}
}

// report tells of what changes for a person; the link itself is told of as any
// other interface's.
func (r *Radios) report(e wifi.Event) {
	name := wifi.Show(e.SSID)
	r.system.Log.Info("Wi-Fi", "interface", e.Interface, "what", int(e.What), "network", name, "error", e.Err)
	switch e.What {
	case wifi.Connected:
		r.system.Console.Linef("%s: joined the wireless network %s", e.Interface, name)
	case wifi.Lost:
		r.system.Console.Linef("%s: lost the wireless network %s; looking for it", e.Interface, name)
	case wifi.Failed, wifi.Ended:
		r.system.Console.Linef("%s: %v", e.Interface, e.Err)
	}
}

// startProgram is a wifi.Starter of children that the supervisor reaps.
func (s *System) startProgram(path string, args []string) (wait func() error, kill func(), err error) {
	child, err := s.Supervisor.Start(sysinit.Command{Path: path, Args: args, Dir: "/"})
	if err != nil {
		return nil, nil, err
	}
	wait = func() error {
		<-child.Done()
		exit, err := child.Wait(context.Background())
		if err == nil && !exit.OK() {
			err = errors.New(exit.String())
		}
		return err
	}
	return wait, func() { _ = child.Signal(unix.SIGKILL) }, nil
}
