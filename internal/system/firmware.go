package system

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/image"
	"github.com/phasebased/phase/internal/kmod"
)

// firmwareDir is where the kernel looks for firmware.
const firmwareDir = "lib/firmware"

// Firmware is what firmware packages and folders hold.
type Firmware struct{ packages []firmwarePackage }

type firmwarePackage struct {
	name string
	*content
}

// firmware reads the packages and folders that were asked for. Which of their files
// are carried depends on the modules.
func (g *gatherer) firmware(ctx context.Context) error {
	for _, name := range g.Firmware {
		read := g.firmwarePackage
		if strings.Contains(name, "/") {
			read = g.firmwareFolder
		}
		c, err := read(ctx, name)
		if err != nil {
			return err
		}
		if len(c.files) == 0 {
			return &FirmwareError{name, errors.New("it holds no firmware")}
		}
		if g.in.Firmware == nil {
			g.in.Firmware = &Firmware{}
		}
		g.in.Firmware.packages = append(g.in.Firmware.packages, firmwarePackage{name, c})
	}
	return nil
}

func (g *gatherer) firmwarePackage(ctx context.Context, name string) (*content, error) {
	pkg, err := g.cache.Get(ctx, name, g.platform.deb)
	if err != nil {
		return nil, &FirmwareError{name, err}
	}
	g.recordPackages(pkg)
	return readPackage(ctx, pkg, func(name string) bool { return strings.HasPrefix(name, firmwareDir+"/") })
}

// firmwareFolder reads a folder such as /lib/firmware: its files and what its links
// lead to inside it, uncompressed. The bill of materials names it by the digest of
// the names and digests of all of it.
func (g *gatherer) firmwareFolder(_ context.Context, dir string) (*content, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, &FirmwareError{dir, err}
	}
	defer root.Close()
	c := &content{files: map[string][]byte{}, links: map[string]string{}}
	sum, left := sha256.New(), int64(maxUnpacked)
	err = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if info, err := root.Stat(name); err != nil || !info.Mode().IsRegular() {
			return nil // a link to a folder, out of this one, or to nowhere; or a device
		}
		data, err := readFirmware(root, name, left)
		if err != nil {
			return fmt.Errorf("system: firmware %s: %w", name, err)
		}
		left -= int64(len(data))
		name = strings.TrimSuffix(strings.TrimSuffix(name, ".xz"), ".zst")
		c.files[path.Join(firmwareDir, name)] = data
		fmt.Fprintf(sum, "%s %q\n", blob.Of(data), name)
		return nil
	})
	if err != nil {
		return nil, &FirmwareError{dir, err}
	}
	g.in.Materials = append(g.in.Materials, Material{Name: filepath.Base(filepath.Clean(dir)), SHA256: blob.FromSum([32]byte(sum.Sum(nil)))})
	return c, nil
}

// readFirmware reads a file, uncompressed: distributions compress theirs, and not
// every kernel takes that.
func readFirmware(root *os.Root, name string, limit int64) ([]byte, error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var r io.Reader = f
	if ext := path.Ext(name); ext == ".xz" || ext == ".zst" {
		if r, err = decompress(ext, f); err != nil {
			return nil, err
		}
	}
	return readAtMost(r, "what is left of the firmware", limit)
}

// A FirmwareError reports firmware that cannot be had.
type FirmwareError struct {
	Package string // or folder
	Err     error
}

func (e *FirmwareError) Error() string {
	return fmt.Sprintf("system: firmware %s: %v", e.Package, e.Err)
}

func (e *FirmwareError) Unwrap() error { return e.Err }

// Hint says where firmware is.
func (e *FirmwareError) Hint() string {
	if strings.Contains(e.Package, "/") {
		return "Name a folder with the files of your devices, by the names that they have in /lib/firmware."
	}
	return "Debian keeps the firmware of most cards in its component non-free-firmware: add that to apt's sources, then sudo apt-get update."
}

// An UnusedFirmwareError reports firmware that no driver on the medium asks for.
type UnusedFirmwareError struct{ Package string }

func (e *UnusedFirmwareError) Error() string {
	return fmt.Sprintf("system: no driver that is carried asks for firmware of %s", e.Package)
}

// Hint says how it would be used.
func (e *UnusedFirmwareError) Hint() string {
	return "Firmware of wireless cards needs --wifi; leave out what is for other devices."
}

// choose returns the files that modules name, by path on the medium, and the package
// of which none is named. With whole, that one is taken whole: some drivers of
// wireless cards put names together as they go.
func (f *Firmware) choose(named []string, whole bool) (chosen map[string][]byte, unused string) {
	chosen = map[string][]byte{}
	for _, c := range f.packages {
		outside := func(name string) bool { return !strings.HasPrefix(name, firmwareDir+"/") }
		names := slices.DeleteFunc(slices.Concat(keysOf(c.files), keysOf(c.links)), outside)
		some := false
		for _, want := range named {
			for _, name := range matching(names, firmwareDir+"/"+want) {
				if data, ok := c.find(name); ok {
					chosen[name], some = data, true
				}
			}
		}
		if some {
			continue
		}
		unused = c.name
		for _, name := range names {
			if data, ok := c.find(name); ok && whole {
				chosen[name] = data
			}
		}
	}
	return chosen, unused
}

// addFirmware puts on the medium what the modules ask for, but for what is there.
func (b *Build) addFirmware(t *image.Tree, mods *moduleSet, wifi bool) error {
	if b.Inputs.Firmware == nil {
		return nil
	}
	named, err := mods.firmware()
	if err != nil {
		return err
	}
	chosen, unused := b.Inputs.Firmware.choose(named, wifi)
	if unused != "" && b.Inputs.WiFi == nil {
		return &UnusedFirmwareError{unused}
	}
	for name, data := range chosen {
		if !t.Has(name) {
			t.Bytes(name, 0o644, data)
		}
	}
	return t.Err()
}

// matching finds the files that a module means by a name: that file, those of a
// pattern, and for names that end in a number (of an interface that the kernel
// counts down from) the highest that is not above; with what lies beside it for
// the same card (.pnvm).
func matching(names []string, want string) []string {
	var found []string
	stem, number, ext, counted := cutNumber(want)
	best, bestNumber := "", -1
	for _, name := range names {
		if ok, err := path.Match(want, name); ok && err == nil || name == want {
			found = append(found, name)
		}
		if !counted {
			continue
		}
		if s, n, e, ok := cutNumber(name); ok && s == stem && e == ext && n <= number && n > bestNumber {
			best, bestNumber = name, n
		}
		if name == stem+".pnvm" {
			found = append(found, name)
		}
	}
	if best != "" && !slices.Contains(found, best) {
		found = append(found, best)
	}
	return found
}

// cutNumber cuts "a-b-72.ucode" into "a-b", 72 and ".ucode".
func cutNumber(name string) (stem string, number int, ext string, ok bool) {
	ext = path.Ext(name)
	name = strings.TrimSuffix(name, ext)
	i := strings.LastIndexByte(name, '-')
	if i < 0 {
		return "", 0, "", false
	}
	n, err := strconv.Atoi(name[i+1:])
	return name[:i], n, ext, err == nil && n >= 0
}

func keysOf[V any](m map[string]V) []string {
	list := make([]string, 0, len(m))
	for k := range m {
		list = append(list, k)
	}
	slices.Sort(list)
	return list
}

// firmware lists the files that the modules may ask for, and the kernel itself.
func (m *moduleSet) firmware() ([]string, error) {
	var named []string
	for record := range bytes.SplitSeq(m.index["modules.builtin.modinfo"], []byte{0}) {
		if _, file, ok := strings.Cut(string(record), ".firmware="); ok {
			named = append(named, file)
		}
	}
	for _, file := range m.files {
		data, err := readModuleFile(filepath.Join(m.dir, filepath.FromSlash(file)))
		if err != nil {
			return nil, err
		}
		mod, err := kmod.ParseModule(data)
		if err != nil {
			continue // it is carried as it is, and names nothing
		}
		named = append(named, mod.Firmware...)
	}
	return named, nil
}
