package system

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/phasebased/phase/internal/image"
	"github.com/phasebased/phase/internal/kmod"
)

// Limits of systems that carry Wi-Fi, in bytes: firmware of common cards is tens
// of megabytes.
const (
	MaxSeedWiFi   = 96 << 20
	MaxRootfsWiFi = 96 << 20
)

// SupplicantPath is where a system that carries Wi-Fi has wpa_supplicant.
const SupplicantPath = "/usr/sbin/wpa_supplicant"

// Modules of wireless cards. The first are what all of them need; ciphers are
// asked for by name, when a network is joined.
var (
	wifiRequired = []string{"cfg80211", "mac80211"}
	wifiCiphers  = []string{"ctr", "ccm", "cmac", "gcm", "ghash_generic"}
	wifiDrivers  = []string{
		"iwlwifi", "iwlmvm", "iwldvm", "ath9k", "ath9k_htc", "ath10k_pci", "ath11k_pci",
		"rtw88_8723de", "rtw88_8821ce", "rtw88_8822be", "rtw88_8822ce", "rtw88_8723du", "rtw88_8821cu", "rtw88_8822bu", "rtw88_8822cu",
		"rtw89_8851be", "rtw89_8852ae", "rtw89_8852be", "rtw89_8852ce",
		"mt7601u", "mt76x0e", "mt76x0u", "mt76x2e", "mt76x2u", "mt7615e", "mt7663u", "mt7915e", "mt7921e", "mt7921u",
		"brcmfmac", "brcmfmac_wcc", "brcmfmac_cyw", "brcmfmac_bca", "rtl8xxxu",
	}
	// What modules ask the kernel for by name while they work. There is no
	// modprobe to answer, so it is loaded with them.
	wifiSoftdeps = map[string]string{
		"mac80211": "pre: ctr ccm cmac gcm ghash_generic",
		"iwlwifi":  "post: iwlmvm iwldvm",
		"brcmfmac": "post: brcmfmac_wcc brcmfmac_cyw brcmfmac_bca",
	}
)

// A WiFi is what a system needs to join wireless networks, besides modules: the
// supplicant with its libraries, the rules of the countries, and firmware.
type WiFi struct {
	Files    map[string][]byte // by path on the medium, without a leading slash
	Programs map[string]bool   // those of Files that are run
	Firmware *Firmware         // nil: none
}

// wifi gathers it, if it is wanted.
func (g *gatherer) wifi(ctx context.Context) error {
	if !g.WiFi {
		if len(g.Firmware) > 0 {
			return errors.New("system: firmware packages are carried only with Wi-Fi")
		}
		return nil
	}
	files, used, err := Programs(ctx, g.cache, g.Arch, "wpasupplicant", "sbin/wpa_supplicant")
	if err != nil {
		return err
	}
	w := &WiFi{Files: files, Programs: map[string]bool{}}
	for name := range files {
		w.Programs[name] = true
	}
	g.recordPackages(used...)
	g.in.WiFi = w
	if err := g.regulatory(ctx, w); err != nil {
		return err
	}
	return g.firmware(ctx, w)
}

// regulatory takes the rules that this distribution's kernels accept: they check
// a signature. Debian packages two sets, and links one of them when the package is
// installed.
func (g *gatherer) regulatory(ctx context.Context, w *WiFi) error {
	pkg, err := g.cache.Get(ctx, "wireless-regdb", g.platform.deb)
	if err != nil {
		return err
	}
	c, err := readPackage(ctx, pkg, func(name string) bool { return path.Dir(name) == firmwareDir })
	if err != nil {
		return err
	}
	for _, suffix := range []string{"", "-debian", "-upstream"} {
		db, ok := c.find(firmwareDir + "/regulatory.db" + suffix)
		sig, signed := c.find(firmwareDir + "/regulatory.db.p7s" + suffix)
		if ok && signed {
			w.Files[firmwareDir+"/regulatory.db"], w.Files[firmwareDir+"/regulatory.db.p7s"] = db, sig
			g.recordPackages(pkg)
			return nil
		}
	}
	return fmt.Errorf("system: package %s has no signed regulatory.db", pkg.Name)
}

// firmwareDir is where the kernel looks for firmware.
const firmwareDir = "lib/firmware"

// Firmware is what firmware packages hold.
type Firmware struct{ packages []*content }

// firmware reads the packages that were asked for. Which of their files are
// carried depends on the modules.
func (g *gatherer) firmware(ctx context.Context, w *WiFi) error {
	for _, name := range g.Firmware {
		pkg, err := g.cache.Get(ctx, name, g.platform.deb)
		if err != nil {
			return &FirmwareError{name, err}
		}
		c, err := readPackage(ctx, pkg, func(name string) bool { return strings.HasPrefix(name, firmwareDir+"/") })
		if err != nil {
			return err
		}
		if len(c.files) == 0 {
			return &FirmwareError{name, fmt.Errorf("package %s holds no firmware", name)}
		}
		if w.Firmware == nil {
			w.Firmware = &Firmware{}
		}
		w.Firmware.packages = append(w.Firmware.packages, c)
		g.recordPackages(pkg)
	}
	return nil
}

// A FirmwareError reports firmware that cannot be had.
type FirmwareError struct {
	Package string
	Err     error
}

func (e *FirmwareError) Error() string {
	return fmt.Sprintf("system: firmware %s: %v", e.Package, e.Err)
}

func (e *FirmwareError) Unwrap() error { return e.Err }

// Hint says where firmware is.
func (e *FirmwareError) Hint() string {
	return "Debian keeps the firmware of most cards in its component non-free-firmware: add that to apt's sources, then sudo apt-get update."
}

// choose returns the files that modules name, by path on the medium. A package of
// which no file is named is taken whole.
func (f *Firmware) choose(named []string) map[string][]byte {
	chosen := map[string][]byte{}
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
		for _, name := range names {
			if data, ok := c.find(name); ok && !some {
				chosen[name] = data
			}
		}
	}
	return chosen
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

// A NoWiFiError reports a kernel without Wi-Fi.
type NoWiFiError struct {
	Release string
	Err     error
}

func (e *NoWiFiError) Error() string {
	return fmt.Sprintf("system: kernel %s has no Wi-Fi: %v", e.Release, e.Err)
}

func (e *NoWiFiError) Unwrap() error { return e.Err }

// Hint names a kernel that has.
func (e *NoWiFiError) Hint() string {
	return "Take the kernel for real machines: leave --kernel-package out, or name linux-image-amd64 or linux-image-arm64."
}

// modules selects what a system carries, with the wireless ones if it does.
func (b *Build) modules(required []string, wifi bool) (*moduleSet, error) {
	drivers := slices.Concat(drivers, platforms[b.Inputs.Arch].drivers)
	if !wifi {
		return selectModules(b.Inputs.Kernel, required, drivers)
	}
	if b.Inputs.WiFi == nil {
		return nil, errors.New("system: a system with Wi-Fi from inputs without")
	}
	set, err := selectModules(b.Inputs.Kernel, slices.Concat(required, wifiRequired), slices.Concat(drivers, wifiCiphers, wifiDrivers))
	var missing *kmod.MissingError
	if errors.As(err, &missing) && slices.Contains(wifiRequired, missing.Name) {
		return nil, &NoWiFiError{b.Inputs.Kernel.Release, err}
	}
	if err != nil {
		return nil, err
	}
	for _, name := range keysOf(wifiSoftdeps) {
		if set.has(name) {
			set.index["modules.softdep"] = append(set.index["modules.softdep"], "softdep "+name+" "+wifiSoftdeps[name]+"\n"...)
		}
	}
	return set, nil
}

func (m *moduleSet) has(name string) bool {
	return slices.ContainsFunc(m.files, func(f string) bool { return kmod.Name(f) == name })
}

// addWiFi puts everything but the modules on the medium.
func (b *Build) addWiFi(t *image.Tree, mods *moduleSet) error {
	w := b.Inputs.WiFi
	for name, data := range w.Files {
		perm := os.FileMode(0o644)
		if w.Programs[name] {
			perm = 0o755
		}
		t.Bytes(name, perm, data)
	}
	if w.Firmware == nil {
		return t.Err()
	}
	named, err := mods.firmware()
	if err != nil {
		return err
	}
	for name, data := range w.Firmware.choose(named) {
		if _, twice := w.Files[name]; !twice {
			t.Bytes(name, 0o644, data)
		}
	}
	return t.Err()
}

// firmware lists the files that the modules may ask for.
func (m *moduleSet) firmware() ([]string, error) {
	var named []string
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

// readModuleFile reads a module, uncompressed.
func readModuleFile(host string) ([]byte, error) {
	f, err := os.Open(host)
	if err != nil {
		return nil, fmt.Errorf("system: %w", err)
	}
	defer f.Close()
	var r io.Reader = f
	if ext := filepath.Ext(host); ext != ".ko" {
		if r, err = decompress(ext, f); err != nil {
			return nil, fmt.Errorf("system: %s: %w", host, err)
		}
	}
	data, err := readAtMost(r, "the module", maxModule)
	if err != nil {
		return nil, fmt.Errorf("system: %s: %w", host, err)
	}
	return data, nil
}
