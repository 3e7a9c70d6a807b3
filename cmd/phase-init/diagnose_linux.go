package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/phasebased/phase/cmd/internal/pid1"
	"github.com/phasebased/phase/internal/bootcfg"
	"github.com/phasebased/phase/internal/durable"
	"github.com/phasebased/phase/internal/netup"
	"github.com/phasebased/phase/internal/sysinit"
	"github.com/phasebased/phase/internal/term"
)

// stickDir is where the stick is mounted while it is written to.
const stickDir = pid1.RunDir + "/stick"

// place is a volume on which diagnostics can be kept.
type place struct {
	sysinit.Volume
	system string // of files
	ours   bool   // the boot medium
}

// errNoPlace says what is missing.
var errNoPlace = errors.New("there is no stick to write to: plug one in that is formatted with FAT, exFAT or ext4, and press d again")

// askDiagnostics saves what helps to find out what is wrong, for somebody else to
// read.
func (s *seed) askDiagnostics(ctx context.Context, f forms, _ *hand) error {
	private := s.config == nil || s.config.Mode == bootcfg.Private // an unknown mode has the strictest limits
	f.console.Title("Save diagnostics (Escape leaves)")
	list, err := s.places(private)
	if err != nil {
		return err
	}
	if len(list) == 0 {
		return errNoPlace
	}
	chosen, err := f.place(ctx, list)
	if err != nil {
		return err
	}
	f.console.Line("The file names this machine's addresses and devices. Passphrases and passwords are left out.")
	if private {
		f.console.Line("Of hardware addresses only the makers' part is kept. Serial numbers of devices may be in the kernel's log.")
		err = f.confirm(ctx, "Private mode writes nothing. This would write one file to "+chosen.Device+", because you ask for it.")
	} else if chosen.ours {
		err = f.confirm(ctx, chosen.Device+" is the boot medium.")
	}
	if err != nil {
		return err
	}
	name, size, err := s.save(chosen, private)
	if err != nil {
		return err
	}
	f.console.Linef("Saved %s (%s) on %s. It can be unplugged.", name, term.Bytes(int64(size)), chosen.Device)
	return nil
}

// place asks for one of them. Nothing is chosen by itself.
func (f forms) place(ctx context.Context, list []place) (place, error) {
	var pairs []term.Pair
	for i, p := range list {
		text := strings.Join(strings.Fields(fmt.Sprintf("%s %s %s %s", term.Bytes(p.Size), p.system, p.Model, p.Label)), " ")
		if p.ours {
			text += " (the boot medium)"
		}
		pairs = append(pairs, term.Pair{Key: fmt.Sprintf("%2d  %s", i+1, p.Device), Value: text})
	}
	f.console.Pairs(pairs)
	n, err := f.number(ctx, "Where", "", len(pairs))
	if err != nil {
		return place{}, err
	}
	return list[n-1], nil
}

// mediumLabels are the partitions by which a boot medium is known.
var mediumLabels = []string{"phase-esp", seedLabel, cacheLabel}

// places lists what can be written to: disks that can be unplugged, and the boot
// partition of the medium last. In Private mode the medium is out of the question,
// as is every other one.
func (s *seed) places(private bool) (list []place, err error) {
	volumes, err := sysinit.Volumes(os.DirFS("/sys"))
	if err != nil {
		return nil, err
	}
	var media []string // disks
	for _, v := range volumes {
		if slices.Contains(mediumLabels, v.Label) {
			media = append(media, v.Disk)
		}
	}
	var own []place
	for _, v := range volumes {
		p := place{Volume: v, system: probeVolume(v.Device), ours: slices.Contains(media, v.Disk)}
		switch {
		case p.system == "":
		case !p.ours && v.Portable:
			list = append(list, p)
		case p.ours && !private && v.Label == mediumLabels[0] && v.Disk == s.seedDisk:
			own = append(own, p)
		}
	}
	list = append(list, own...)
	return list[:min(len(list), maxSeen)], nil
}

func probeVolume(device string) string {
	f, err := os.Open(device)
	if err != nil {
		return ""
	}
	defer f.Close()
	return sysinit.FileSystem(f)
}

// save writes the diagnostics to a volume, which is mounted for that long.
func (s *seed) save(p place, private bool) (name string, size int, err error) {
	name = "phase-diagnostics-" + time.Now().UTC().Format("20060102-150405")
	data, err := s.diagnostics(name, private)
	if err != nil {
		return "", 0, err
	}
	if s.system.Modules != nil { // vfat asks for its tables of characters by name
		for _, module := range []string{"nls_cp437", "nls_iso8859_1", "nls_ascii", "nls_utf8", p.system} {
			if err := s.system.Modules.Load(module); err != nil {
				s.system.Log.Debug("a driver of the stick", "error", err)
			}
		}
	}
	name += ".tar.gz"
	return name, len(data), p.write(stickDir, name, data)
}

// write puts one file on the volume, whose disk may be written to for that long. A
// file that has its name is replaced.
func (p place) write(dir, name string, data []byte) (err error) {
	protect, err := sysinit.Writable(p.Disk, p.Device)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, protect()) }()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := sysinit.MountStick(p.Device, dir, p.system); err != nil {
		return err
	}
	err = durable.WriteBelow(dir, name, data, 0o644)
	return errors.Join(err, sysinit.Unmount(dir))
}

// diagnostics is what this system knows of itself and of the machine, packed.
func (s *seed) diagnostics(folder string, private bool) ([]byte, error) {
	files := append([]diagnostic{{"README.txt", s.summary()}}, stageFiles(os.DirFS(pid1.RunDir))...)
	log, err := sysinit.KernelLog()
	if err != nil {
		log = err.Error()
	}
	files = append(files, diagnostic{"kernel.log", []byte(log)})
	for name, file := range map[string]string{
		"cmdline.txt": "/proc/cmdline", "meminfo.txt": "/proc/meminfo", "modules.txt": "/proc/modules", "mounts.txt": "/proc/self/mounts",
		"partitions.txt": "/proc/partitions", "iomem.txt": "/proc/iomem", "build.json": buildFile,
	} {
		data, err := os.ReadFile(file) // the kernel's own, and one of our image
		if err != nil {
			data = []byte(err.Error())
		}
		files = append(files, diagnostic{name, data})
	}
	var hidden []string
	if s.config != nil {
		hidden = secrets(s.config.Network, s.config.Tor)
		shown := *s.config
		shown.Tor.Bridges, shown.Tor.Extra = nil, nil
		files = append(files, document("configuration.json", shown))
	}
	if s.network != nil {
		files = append(files, document("network.json", struct {
			Network netup.Network
			Cards   []card
		}{s.network.Network(), s.cards()}))
	}
	slices.SortStableFunc(files, func(a, b diagnostic) int { return strings.Compare(a.name, b.name) })
	return pack(folder, files, redactor{hidden, private}, time.Now())
}

// document is a value as a JSON file. What is secret in it hides itself.
func document(name string, v any) diagnostic {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		data = []byte(err.Error())
	}
	return diagnostic{name, data}
}

// summary is what a person reads first.
func (s *seed) summary() []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "Diagnostics of Phase Boot, %s\n\n", time.Now().UTC().Format(time.RFC3339))
	if s.image != nil {
		fmt.Fprintf(&b, "medium %s, built %s, kernel %s\n", s.image.build.Version, s.image.build.BuildTime.Format(time.RFC3339), s.image.build.Kernel)
	}
	if s.config != nil {
		fmt.Fprintf(&b, "mode %s, channel %s, %s\n", s.config.Mode, s.config.Channel, s.config.Arch)
	}
	if f := s.told; f.Title != "" {
		fmt.Fprintf(&b, "\n%s [%s]\n%s\n", f.Title, f.Code, f.Wrong)
		for _, line := range f.Tried {
			fmt.Fprintf(&b, "- %s\n", line)
		}
	}
	if s.system.Modules != nil {
		b.WriteString("\ndevices without a driver in this image:\n")
		for _, m := range s.system.Modules.Missing() {
			fmt.Fprintf(&b, "- %s\n", m)
		}
	}
	b.WriteString("\nPassphrases, passwords and Tor's bridges were taken out.\n")
	return []byte(b.String())
}
