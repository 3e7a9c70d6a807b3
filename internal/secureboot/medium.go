package secureboot

import (
	"bytes"
	"crypto/x509"
	"path"
	"slices"
	"strings"

	"github.com/phasebased/phase/internal/pefile"
)

// Tiers of Secure Boot, as docs/secure-boot.md has them.
const (
	TierOff   = 1 // Secure Boot has to be off
	TierStock = 2 // starts on PCs as sold; the seed is not protected
	TierMOK   = 3 // starts on PCs as sold once the key is enrolled; the seed is signed
	TierOwner = 4 // starts where the firmware trusts the owner's key
)

// A Program is one EFI program of a medium.
type Program struct {
	Path    string      `json:"path"`
	Signers []SignerRow `json:"signers"` // none: it is not signed
	Problem string      `json:"problem,omitempty"`

	signatures []Signature
	data       []byte
}

// SignerRow is who has signed a program.
type SignerRow struct {
	Name        string `json:"name"`
	Issuer      string `json:"issuer,omitempty"`
	Fingerprint string `json:"fingerprint,omitempty"` // SHA-256 of the certificate
	Problem     string `json:"problem,omitempty"`     // why the signature does not count
}

// A Medium is what its boot partition says about Secure Boot.
type Medium struct {
	Tier     int       `json:"tier"`
	Why      string    `json:"why"`
	Programs []Program `json:"programs"`
	// Enrol is the certificate that a machine has to trust: with shim the one that is
	// enrolled, else the one in its db.
	Enrol *x509.Certificate `json:"-"`
}

// Names on a medium.
const (
	bootFolder = "EFI/BOOT/"
	ukiFolder  = "EFI/Linux/" // of earlier releases' media
)

// WantsFile reports whether Inspect looks at a file of the boot partition.
func WantsFile(name string) bool {
	return strings.EqualFold(path.Ext(name), ".efi") || path.Base(name) == "vmlinuz"
}

// InspectProgram says who has signed one file.
func InspectProgram(name string, data []byte) Program {
	p := Program{Path: name, data: data}
	var err error
	if p.signatures, err = Signers(data); err != nil {
		p.Problem = err.Error()
	}
	for _, s := range p.signatures {
		row := SignerRow{Name: "unknown"}
		if s.Signer != nil {
			sum := Fingerprint(s.Signer)
			row = SignerRow{Name: s.Signer.Subject.CommonName, Issuer: s.Signer.Issuer.CommonName, Fingerprint: hexOf(sum[:])}
		}
		if s.Err != nil {
			row.Problem = s.Err.Error()
		}
		p.Signers = append(p.Signers, row)
	}
	return p
}

// Inspect looks at the EFI programs of a boot partition, by path, and says which
// tier the medium reaches for its weakest architecture.
func Inspect(files map[string][]byte) Medium {
	m := Medium{Tier: TierOff, Why: "nothing on it can be started by firmware"}
	byPath := map[string]*Program{}
	for name, data := range files {
		m.Programs = append(m.Programs, InspectProgram(name, data))
	}
	slices.SortFunc(m.Programs, func(a, b Program) int { return strings.Compare(a.Path, b.Path) })
	for i := range m.Programs {
		byPath[m.Programs[i].Path] = &m.Programs[i]
	}
	found := false
	for _, arch := range []string{"x64", "aa64"} {
		first := byPath[bootFolder+"BOOT"+strings.ToUpper(arch)+".EFI"]
		if first == nil {
			continue
		}
		tier, why, enrol := tierOf(first, byPath[bootFolder+"grub"+arch+".efi"], m.Programs)
		if !found || tier < m.Tier {
			m.Tier, m.Why, m.Enrol = tier, why, enrol
		}
		found = true
	}
	return m
}

// tierOf judges the chain of one architecture: what the firmware starts, what shim
// starts after it (nil without shim), and everything that may come then.
func tierOf(first, second *Program, all []Program) (tier int, why string, enrol *x509.Certificate) {
	if first.intact() == nil {
		return TierOff, "its first program is not signed", nil
	}
	last, tier, shim := first, TierOwner, ""
	if second != nil {
		last, tier, shim = second, TierMOK, ", shim by its vendor"
	}
	own := last.intact()
	switch {
	case own == nil:
		return TierOff, "what shim starts is not signed", nil
	case last.sealed():
		if name := opening(own, all); name != "" {
			return tier, "the image is signed by " + own.Subject.CommonName + shim + "; but so is " + name + openEnd, own
		}
		return tier, "one image, signed by " + own.Subject.CommonName + shim, own
	case second != nil && !bytes.Contains(second.data, []byte(bootMark)):
		return TierStock, "shim and GRUB are the distribution's; nobody signs the seed", nil
	}
	if bad := unsignedBy(own, all); bad != "" {
		return TierOff, bad + " is not signed by the key of the loader", nil
	}
	return tier, "loader and images are signed by " + own.Subject.CommonName + shim + "; the loader" + openEnd, own
}

// bootMark is in every systemd-boot.
const bootMark = "#### LoaderInfo: systemd-boot "

// openEnd says what is wrong with media of earlier releases of this project.
const openEnd = ", which starts signed kernels with any initramfs: build the medium anew"

// sealed reports whether the program is a unified kernel image: what it starts is part
// of what was signed.
func (p *Program) sealed() bool {
	f, err := pefile.Parse(p.data)
	if err != nil {
		return false
	}
	for _, name := range []string{".linux", ".initrd", ".cmdline"} {
		if content, _ := f.Content(name); len(content) == 0 {
			return false
		}
	}
	return true
}

// opening names the first program that cert vouches for and that is no unified kernel
// image: it would start what nobody has signed.
func opening(cert *x509.Certificate, all []Program) string {
	for _, p := range all {
		if !p.sealed() && Verify(p.data, []*x509.Certificate{cert}) == nil {
			return p.Path
		}
	}
	return ""
}

// unsignedBy names the first unified kernel image of systemd-boot's menu that lacks a
// signature of cert.
func unsignedBy(cert *x509.Certificate, all []Program) string {
	images := 0
	for _, p := range all {
		if !strings.HasPrefix(p.Path, ukiFolder) {
			continue
		}
		images++
		if Verify(p.data, []*x509.Certificate{cert}) != nil {
			return p.Path
		}
	}
	if images == 0 {
		return "a kernel outside of " + ukiFolder
	}
	return ""
}

// intact is who has signed the program with the first signature that fits it.
func (p *Program) intact() *x509.Certificate {
	for _, s := range p.signatures {
		if s.Err == nil {
			return s.Signer
		}
	}
	return nil
}
