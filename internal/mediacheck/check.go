package mediacheck

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/dsse"
	"github.com/phasebased/phase/internal/strictjson"
	"github.com/phasebased/phase/manifest"
)

// Labels of the partitions.
const (
	labelESP  = "phase-esp"
	labelSeed = "phase-seed"
)

// Report is what a medium says, as far as it is in order.
type Report struct {
	Layout   *Layout     `json:"layout,omitempty"`
	Build    *Build      `json:"build,omitempty"`
	Chains   []Chain     `json:"chains,omitempty"`
	Root     *RootReport `json:"root,omitempty"`
	Parts    int         `json:"materials"` // of others
	Files    []ESPFile   `json:"files,omitempty"`
	Findings []*Error    `json:"-"` // what is not in order; none: everything is
}

// Build is build.json: what the medium knows of itself.
type Build struct {
	Version    string    `json:"version"`
	BuildTime  time.Time `json:"build_time"`
	Arch       string    `json:"arch"`
	Kernel     string    `json:"kernel"`
	MinVersion int64     `json:"min_manifest_version"`
}

// Chain is how machines of an architecture start the medium.
type Chain struct {
	Arch string `json:"arch"`
	Name string `json:"chain"` // systemd-boot, stock, uki
	Tier string `json:"tier"`  // what Secure Boot gives with it
}

// RootReport is the root of trust that lies among the medium's papers.
type RootReport struct {
	Version int64       `json:"version"`
	Expires time.Time   `json:"expires"`
	Digest  blob.Digest `json:"digest"` // of the file
	Roles   []RoleKeys  `json:"roles"`
}

// RoleKeys are the keys of a role.
type RoleKeys struct {
	Role      string   `json:"role"`
	Threshold int      `json:"threshold"`
	KeyIDs    []string `json:"key_ids"`
}

// Structure reads a medium of room bytes: the whole of an image, or of a stick. The
// findings are of this package; an error is ctx's, or one of reading that no
// content of a medium can cause. tell, if not nil, is told how many bytes of the boot partition
// were read.
func Structure(ctx context.Context, r io.ReaderAt, room int64, tell func(n int64)) (*Report, error) {
	report := &Report{}
	layout, err := readLayout(r, room)
	if err != nil {
		return report, report.note(err)
	}
	report.Layout = layout
	told := func(n int64) error {
		if tell != nil {
			tell(n)
		}
		return ctx.Err()
	}
	if err := report.esp(r, told); err != nil {
		return report, err
	}
	return report, report.seed(r)
}

// note keeps what is a finding, and returns what is not.
func (r *Report) note(err error) error {
	var found *Error
	if !errors.As(err, &found) {
		return err
	}
	r.Findings = append(r.Findings, found)
	return nil
}

func (r *Report) esp(in io.ReaderAt, tell func(int64) error) error {
	p, err := r.Layout.find(labelESP)
	if err != nil {
		return r.note(err)
	}
	if p.Type != "c12a7328-f81f-11d2-ba4b-00a0c93ec93b" {
		return r.note(ErrTable.Of("boot partition", "it is of type %s, and firmware would not look into it", p.Type))
	}
	fs, err := openFAT(io.NewSectionReader(in, p.Offset, p.Size), p.Size)
	if err != nil {
		return r.note(err)
	}
	files, err := fs.files(tell)
	if err != nil {
		return r.note(err)
	}
	r.Files, r.Chains = files, chains(files)
	if len(r.Chains) == 0 {
		return r.note(ErrChain.Of("boot partition", "there is no EFI/BOOT/BOOTX64.EFI and no EFI/BOOT/BOOTAA64.EFI"))
	}
	return nil
}

// chains tells by the files what firmware would start.
func chains(files []ESPFile) (list []Chain) {
	has := func(match func(path string) bool) bool {
		return slices.ContainsFunc(files, func(f ESPFile) bool { return match(strings.ToLower(f.Path)) })
	}
	for _, a := range []struct{ arch, suffix string }{{manifest.ArchX8664, "x64"}, {manifest.ArchARM64, "aa64"}} {
		under := func(names ...string) func(string) bool {
			return func(path string) bool { return slices.Contains(names, path) }
		}
		if !has(under("/efi/boot/boot" + a.suffix + ".efi")) {
			continue
		}
		c := Chain{a.arch, "systemd-boot", "1: Secure Boot has to be off; nothing but the image's digest protects the medium"}
		switch {
		case !has(under("/phase/"+a.arch+"/vmlinuz")) && slices.ContainsFunc(files, func(f ESPFile) bool { return f.unified(a.suffix) }):
			c.Name, c.Tier = "uki", "3 or 4: Secure Boot protects kernel, seed and command line, if the machine trusts only the key that signed them"
		case has(under("/efi/boot/grub" + a.suffix + ".efi")):
			c.Name, c.Tier = "stock", "2: boots with Secure Boot on, which protects the kernel but not the seed"
		}
		list = append(list, c)
	}
	return list
}

// minUnified is less than any kernel with a seed has, and more than any boot loader, in
// bytes.
const minUnified = 4 << 20

// unified reports whether the file is a program with kernel and seed in it, for the
// machines of this suffix: what firmware starts, or shim, or a menu of earlier
// releases of this project.
func (f ESPFile) unified(suffix string) bool {
	path := strings.ToLower(f.Path)
	first := path == "/efi/boot/boot"+suffix+".efi" || path == "/efi/boot/grub"+suffix+".efi"
	return first && f.Size >= minUnified || strings.HasPrefix(path, "/efi/linux/") && strings.HasSuffix(path, ".efi")
}

// papers are the documents on the seed partition that are looked at.
type papers struct {
	Materials []struct {
		Name    string      `json:"name"`
		Version string      `json:"version"`
		Arch    string      `json:"arch"`
		SHA256  blob.Digest `json:"sha256"`
	} `json:"materials"`
	ESP []ESPFile `json:"esp"`
}

func (r *Report) seed(in io.ReaderAt) error {
	p, err := r.Layout.find(labelSeed)
	if err != nil {
		return r.note(err)
	}
	files, err := readPapers(io.NewSectionReader(in, p.Offset, p.Size), p.Size)
	if err != nil {
		return r.note(err)
	}
	for _, name := range []string{"policy.toml", "bootstrap-nodes.toml"} {
		if _, ok := files[name]; !ok {
			return r.note(ErrPapers.Of(name, "it is missing"))
		}
	}
	lim := strictjson.Limits{Bytes: 4 << 20, Depth: 8}
	var build Build
	if err := strictjson.Unmarshal(files["build.json"], &build, lim); err != nil || build.Version == "" {
		return r.note(ErrPapers.Of("build.json", "%v", err))
	}
	r.Build = &build
	var have papers
	if err := strictjson.Unmarshal(files["materials.json"], &have, lim); err != nil {
		return r.note(ErrPapers.Of("materials.json", "%v", err))
	}
	r.Parts = len(have.Materials)
	r.compare(have.ESP)
	return r.root(files["root.json"])
}

// compare holds the files of the boot partition to the medium's papers, if both
// could be read. What a machine writes there when it has handed over by a restart
// is not in the papers, and is told as such.
func (r *Report) compare(want []ESPFile) {
	if r.Files == nil {
		return
	}
	have := map[string]ESPFile{}
	for _, f := range r.Files {
		have[f.Path] = f
	}
	for _, w := range want {
		switch got, ok := have[w.Path]; {
		case !ok:
			_ = r.note(ErrFile.Of(w.Path, "it is missing"))
		case got != w:
			_ = r.note(ErrFile.Of(w.Path, "it has %s, expected %s", got.SHA256, w.SHA256))
		}
		delete(have, w.Path)
	}
	for _, f := range r.Files {
		if _, more := have[f.Path]; more {
			_ = r.note(ErrFile.Of(f.Path, "the papers do not name it"))
		}
	}
	if len(want) == 0 {
		_ = r.note(ErrPapers.Of("materials.json", "it names no file of the boot partition"))
	}
}

func (r *Report) root(raw []byte) error {
	root, err := manifest.ParseRoot(raw)
	if err != nil {
		return r.note(ErrRootFile.Of("root.json", "%v", err))
	}
	spec, err := root.Spec()
	if err != nil {
		return r.note(ErrRootFile.Of("root.json", "%v", err))
	}
	r.Root = &RootReport{Version: root.Version(), Expires: root.Expires(), Digest: blob.Of(raw)}
	for role, keys := range spec.Roles {
		r.Root.Roles = append(r.Root.Roles, roleKeys(string(role), keys))
	}
	for channel, keys := range spec.Channels {
		r.Root.Roles = append(r.Root.Roles, roleKeys("targets of "+channel, keys))
	}
	slices.SortFunc(r.Root.Roles, func(a, b RoleKeys) int { return strings.Compare(a.Role, b.Role) })
	return nil
}

func roleKeys(name string, keys manifest.RoleKeys) RoleKeys {
	list := RoleKeys{Role: name, Threshold: keys.Threshold}
	for _, key := range keys.Keys {
		list.KeyIDs = append(list.KeyIDs, dsse.KeyID(key))
	}
	return list
}

// SameSize is a finding if a file is longer than the image in it; what is shorter
// was found already.
func (r *Report) SameSize(size int64) {
	if r.Layout != nil && size != r.Layout.Size {
		_ = r.note(ErrSize.Of("image", "it should have %d bytes and has %d", r.Layout.Size, size))
	}
}
