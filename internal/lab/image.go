package lab

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/phasebased/phase/internal/system"
	"github.com/phasebased/phase/media"
)

// consoles are the kernel options of every medium of the lab: the machine's
// screen, then its serial port, and none of the kernel's own chatter.
const consoles = "console=tty0 console=ttyS0,115200 quiet loglevel=3"

// ImageOptions say how a medium differs from the shipped default.
type ImageOptions struct {
	Out     string // the raw image to write
	Mode    string // the menu's default: internet, local or private
	Menu    int    // seconds the menu is shown; 0 boots at once
	Nodes   []Node // bootstrap nodes of the DHT
	Options string // further kernel options of every entry
	Cache   int64  // bytes of the cache partition; 0: the default, -1: none
}

// Node is a bootstrap node: its peer id, and its address without it.
type Node struct{ PeerID, Address string }

// Image writes a USB image.
func (l *Lab) Image(ctx context.Context, o ImageOptions) (system.ImageReport, error) {
	kernel, initrds := system.ESPPaths(l.cfg.Arch, 1)
	files := map[string][]byte{}
	conf, err := media.LoaderConf(o.Menu, o.Mode)
	if err != nil {
		return system.ImageReport{}, err
	}
	files["loader.conf"] = []byte(conf)
	for _, mode := range media.Modes() {
		entry, err := media.Entry(media.EntryData{
			Mode: mode, Arch: l.cfg.Arch, Linux: kernel, Initrd: initrds[0],
			Options: strings.TrimSpace(consoles + " " + o.Options),
		})
		if err != nil {
			return system.ImageReport{}, err
		}
		files["entries/"+mode+".conf"] = []byte(entry)
	}
	return l.build.USBImage(ctx, system.USBConfig{
		Out: o.Out, Loader: files, Root: l.Root, Policy: media.Policy(), Bootstrap: bootstrapFile(o.Nodes), Cache: o.Cache,
		Boots: []system.Boot{{
			Arch: l.cfg.Arch, Loader: l.build.Inputs.Loader, Kernel: l.build.Inputs.Kernel.Image, Initramfs: []string{l.Seed},
		}},
	})
}

// bootstrapFile is bootstrap-nodes.toml with the given nodes.
func bootstrapFile(nodes []Node) []byte {
	text := string(media.BootstrapNodes())
	for _, n := range nodes {
		text += fmt.Sprintf("\n[[bootstrap]]\npeer_id = %q\naddress = %q\n", n.PeerID, n.Address)
	}
	return []byte(text)
}

// RunDir is a folder for one run's files.
func (l *Lab) RunDir(name string) string { return filepath.Join(l.cfg.Work, "runs", name) }
