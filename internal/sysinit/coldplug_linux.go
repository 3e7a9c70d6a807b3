package sysinit

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"strings"
)

// skipBuses are not loaded for. The processor's own modalias asks for every
// optimised cipher and for virtualisation: nothing that a seed needs to reach
// the network, and half a second under emulation.
var skipBuses = []string{"cpu:"}

// ColdPlug loads the modules of all devices that exist, and of those that
// appear while it does so: a virtio network card exists only after virtio_pci
// is loaded. It returns when no device is left that is not looked at. Events
// that come later (a USB stick that is slow to answer) are for HotPlug, to
// which w can be passed on.
func (m *Modules) ColdPlug(ctx context.Context, w *Watcher, sys fs.FS) error {
	if err := m.walk(sys); err != nil {
		return err
	}
	for ctx.Err() == nil {
		u, ok, err := w.Pending()
		switch {
		case errors.Is(err, ErrLost):
			if err := m.walk(sys); err != nil {
				return err
			}
		case err != nil:
			return err
		case !ok:
			return nil
		default:
			m.event(u)
		}
	}
	return context.Cause(ctx)
}

// HotPlug loads modules for devices as they appear, until ctx ends.
func (m *Modules) HotPlug(ctx context.Context, w *Watcher, sys fs.FS) error {
	for {
		u, err := w.Next(ctx)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, ErrLost):
			if err := m.walk(sys); err != nil {
				return err
			}
		case err != nil:
			return err
		default:
			m.event(u)
		}
	}
}

// LoadAll is ColdPlug on the running system with a watcher of its own.
func (m *Modules) LoadAll(ctx context.Context) error {
	w, err := NewWatcher()
	if err != nil {
		return err
	}
	defer w.Close()
	return m.ColdPlug(ctx, w, os.DirFS("/sys"))
}

func (m *Modules) event(u Uevent) {
	if u.Action == "add" || u.Action == "change" {
		m.device(strings.TrimPrefix(u.DevPath, "/devices/"), u.Env["MODALIAS"])
	}
}

func (m *Modules) device(device, modalias string) {
	for _, prefix := range skipBuses {
		if strings.HasPrefix(modalias, prefix) {
			return
		}
	}
	m.Device(device, modalias)
}

// walk looks at the devices of every bus. That finds all that a walk through
// /sys/devices finds, as only a device on a bus has a driver, and it touches
// one directory per device instead of the whole tree.
func (m *Modules) walk(sys fs.FS) error {
	buses, err := fs.ReadDir(sys, "bus")
	if err != nil {
		return err
	}
	for _, bus := range buses {
		dir := path.Join("bus", bus.Name(), "devices")
		devices, err := fs.ReadDir(sys, dir)
		if err != nil {
			continue // a bus without devices, or one that has just gone
		}
		for _, d := range devices {
			if alias := readLine(sys, path.Join(dir, d.Name(), "modalias")); alias != "" {
				m.device(bus.Name()+"/"+d.Name(), alias)
			}
		}
	}
	return nil
}
