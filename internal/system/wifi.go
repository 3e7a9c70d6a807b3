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

	"github.com/phasebased/phase/internal/image"
	"github.com/phasebased/phase/internal/kmod"
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
// supplicant with its libraries, and the rules of the countries.
type WiFi struct {
	Files    map[string][]byte // by path on the medium, without a leading slash
	Programs map[string]bool   // those of Files that are run
}

// wifi gathers it, if it is wanted.
func (g *gatherer) wifi(ctx context.Context) error {
	if !g.WiFi {
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
	return g.regulatory(ctx, w)
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
	platform := platforms[b.Inputs.Arch]
	drivers, chosen := slices.Concat(drivers, platform.drivers), func(x *kmod.Index) []string { return platform.chosen(b.Inputs.Flavour, x) }
	if b.Inputs.Flavour.or() == FlavourGeneric {
		drivers = append(drivers, genericDrivers...)
	}
	if !wifi {
		return selectModules(b.Inputs.Kernel, required, drivers, chosen)
	}
	if b.Inputs.WiFi == nil {
		return nil, errors.New("system: a system with Wi-Fi from inputs without")
	}
	set, err := selectModules(b.Inputs.Kernel, slices.Concat(required, wifiRequired), slices.Concat(drivers, wifiCiphers, wifiDrivers), chosen)
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
func (b *Build) addWiFi(t *image.Tree) error {
	w := b.Inputs.WiFi
	for name, data := range w.Files {
		perm := os.FileMode(0o644)
		if w.Programs[name] {
			perm = 0o755
		}
		t.Bytes(name, perm, data)
	}
	return t.Err()
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
