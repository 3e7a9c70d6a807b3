package manifest

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/phasebased/phase/blob"
)

// What a correctly signed document may still not ask for. A signer applies the
// same limits, so that nothing is signed which every verifier would refuse.
const (
	MaxKernelBytes    = 512 << 20 // also of the initramfs
	MaxRootfsBytes    = 8 << 30
	MaxDTBBytes       = 16 << 20
	MaxDTBs           = 64
	MaxDTBsBytes      = 64 << 20 // of all device trees together
	MaxURLs           = 16       // per list
	MaxURLBytes       = 2048     // per URL
	MaxDeltas         = 8        // per artifact
	MaxCmdlineBytes   = 2048
	maxSafeNameLength = 128
)

// The longest lives that a signer may give, from created_at to expires_at. A
// thief of the keys cannot sign for longer either, and a pointer that is kept
// back freezes a machine for two weeks at most.
const (
	MaxManifestLife = 180 * 24 * time.Hour
	MaxPointerLife  = 14 * 24 * time.Hour
)

// forbiddenParams are kernel parameters that would replace init or weaken the
// verification of code after the hand-over. The kernel treats - and _ alike.
var forbiddenParams = []string{"init=", "rdinit=", "lockdown=", "module.sig_enforce="}

var (
	dtbForm = form{"A-Za-z0-9", "A-Za-z0-9._-", maxSafeNameLength}
	cidForm = form{"A-Za-z0-9", "A-Za-z0-9", 128}
)

func (m Manifest) checkPolicy() error {
	if err := checkNames(m.Channel, m.Arch); err != nil {
		return err
	}
	if err := checkLife(m.CreatedAt, m.ExpiresAt, MaxManifestLife); err != nil {
		return err
	}
	if err := m.Kernel.check("kernel", MaxKernelBytes); err != nil {
		return err
	}
	if err := m.Initramfs.check("initramfs", MaxKernelBytes); err != nil {
		return err
	}
	if m.Rootfs != nil {
		if err := m.Rootfs.check(rootfsName, MaxRootfsBytes); err != nil {
			return err
		}
	}
	if err := checkDTBs(m.DTBs); err != nil {
		return err
	}
	return checkCmdline(m.Cmdline)
}

// checkDTBs adds up sizes only after each was found within its cap, so that
// the sum cannot overflow.
func checkDTBs(dtbs map[string]Artifact) error {
	if len(dtbs) > MaxDTBs {
		return fmt.Errorf("%d device trees, at most %d are allowed", len(dtbs), MaxDTBs)
	}
	var total int64
	for _, name := range slices.Sorted(maps.Keys(dtbs)) {
		if !dtbForm.fits(name) {
			return fmt.Errorf("device tree name %.40q is not a plain file name", name)
		}
		if err := dtbs[name].check("device tree "+name, MaxDTBBytes); err != nil {
			return err
		}
		total += dtbs[name].Size
	}
	if total > MaxDTBsBytes {
		return fmt.Errorf("device trees have %d bytes together, at most %d are allowed", total, MaxDTBsBytes)
	}
	return nil
}

func checkLife(created, expires time.Time, longest time.Duration) error {
	if !created.Before(expires) {
		return fmt.Errorf("created_at is not before expires_at")
	}
	if life := expires.Sub(created); life > longest {
		return fmt.Errorf("a life of %d days, at most %d are allowed", int64((life+day-1)/day), int64(longest/day))
	}
	return nil
}

const day = 24 * time.Hour

func (p Pointer) checkPolicy() error {
	if err := checkNames(p.Channel, p.Arch); err != nil {
		return err
	}
	if err := checkLife(p.CreatedAt, p.ExpiresAt, MaxPointerLife); err != nil {
		return err
	}
	if p.ManifestSize < 1 || p.ManifestSize > MaxManifestBytes {
		return fmt.Errorf("manifest_size is %d, allowed are 1 to %d bytes", p.ManifestSize, MaxManifestBytes)
	}
	return checkURLs(p.URLs)
}

func (a Artifact) check(name string, maxSize int64) error {
	if a.Hash.IsZero() {
		return fmt.Errorf("%s has no hash", name)
	}
	if a.Size < 1 || a.Size > maxSize {
		return fmt.Errorf("%s has size %d, allowed are 1 to %d bytes", name, a.Size, maxSize)
	}
	if a.IPFS != "" && !cidForm.fits(a.IPFS) {
		return fmt.Errorf("%s has a malformed IPFS CID", name)
	}
	if err := checkURLs(a.URLs); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if a.Chunks == a.Hash {
		return fmt.Errorf("%s is named as its own chunk list", name)
	}
	if err := a.checkDeltas(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if a.Verity == nil {
		return nil
	}
	if name != rootfsName {
		return fmt.Errorf("%s has a hash tree, which only a root file system can have", name)
	}
	if err := a.Verity.check(a.Size); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

const rootfsName = "rootfs"

// checkDeltas refuses what could only be a mistake, or waste: a patch from or to
// nothing else, two from the same blob, and one that is larger than what it saves
// fetching.
func (a Artifact) checkDeltas() error {
	if len(a.Deltas) > MaxDeltas {
		return fmt.Errorf("%d patches, at most %d are allowed", len(a.Deltas), MaxDeltas)
	}
	from := map[blob.Digest]bool{}
	for i, d := range a.Deltas {
		switch {
		case d.From.IsZero() || d.Hash.IsZero():
			return fmt.Errorf("patch %d lacks a hash", i+1)
		case d.From == a.Hash:
			return fmt.Errorf("patch %d is from the artifact itself", i+1)
		case from[d.From]:
			return fmt.Errorf("patch %d is from the same blob as one before it", i+1)
		case d.Hash == a.Hash || d.Hash == d.From || d.Hash == a.Chunks:
			return fmt.Errorf("patch %d is a blob that is named for something else as well", i+1)
		case d.Size < 1 || d.Size > a.Size:
			return fmt.Errorf("patch %d has size %d, allowed are 1 to the artifact's %d bytes", i+1, d.Size, a.Size)
		}
		from[d.From] = true
	}
	return nil
}

func checkNames(channel, arch string) error {
	if err := CheckChannel(channel); err != nil {
		return err
	}
	if canonical, err := ParseArch(arch); err != nil || canonical != arch {
		return fmt.Errorf("architecture %.40q is not %s or %s", arch, ArchX8664, ArchARM64)
	}
	return nil
}

func checkURLs(list []string) error {
	if len(list) > MaxURLs {
		return fmt.Errorf("%d URLs, at most %d are allowed", len(list), MaxURLs)
	}
	for _, s := range list {
		if err := checkURL(s); err != nil {
			return fmt.Errorf("URL %.80q: %w", s, err)
		}
	}
	return nil
}

func checkURL(s string) error {
	if len(s) > MaxURLBytes {
		return fmt.Errorf("longer than %d bytes", MaxURLBytes)
	}
	if slices.ContainsFunc([]byte(s), func(c byte) bool { return c <= ' ' || c > '~' }) {
		return fmt.Errorf("has characters other than printable ASCII")
	}
	u, err := url.Parse(s)
	if err != nil {
		return fmt.Errorf("malformed")
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("neither http nor https")
	case u.Opaque != "" || u.Hostname() == "":
		return fmt.Errorf("names no host")
	case u.User != nil:
		return fmt.Errorf("carries a user name")
	case strings.Contains(s, "#"):
		return fmt.Errorf("carries a fragment")
	}
	return nil
}

// checkCmdline splits more often than the kernel does (it ignores quoting), so
// that no parameter can hide. Bytes above ASCII are refused because the kernel
// takes 0xa0 for white space.
func checkCmdline(s string) error {
	if len(s) > MaxCmdlineBytes {
		return fmt.Errorf("command line has %d bytes, at most %d are allowed", len(s), MaxCmdlineBytes)
	}
	if i := strings.IndexFunc(s, func(c rune) bool { return c < ' ' || c > '~' }); i >= 0 {
		return fmt.Errorf("command line has a control or non-ASCII character at byte %d", i)
	}
	for _, word := range strings.Fields(s) {
		param := strings.ReplaceAll(strings.Trim(word, `"`), "-", "_")
		for _, forbidden := range forbiddenParams {
			if strings.HasPrefix(param, forbidden) {
				return fmt.Errorf("command line sets %s, which a manifest must not", forbidden)
			}
		}
	}
	return nil
}
