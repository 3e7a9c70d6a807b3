// Package deb builds Debian packages of the programs: plasmd, the node with its
// service, and phase, the operator's commands. A node needs nothing that builds media,
// and who publishes needs no daemon that opens ports; so they are two.
//
// dpkg-deb packs, which every build of an image needs anyway: it is the format's
// definition, makes everything root's without our being root, and takes no module.
// (A library that writes packages would bring some twenty modules for what is an ar
// archive of two tar archives.) The bytes depend on what goes in, the date, and the
// version of dpkg-deb's compressor; not on the folder, the user, his umask or the
// number of processors. Programs that are packed are trusted as much as whoever built
// them.
package deb

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/phasebased/phase/packaging"
)

// Config says what is packed.
type Config struct {
	Programs string    // folder of the programs, built for Arch
	Arch     string    // x86_64 or arm64
	Version  string    // of all of it, such as 0.1.0
	Time     time.Time // every date inside
	Config   []byte    // the node's default configuration
	// Manuals are manual pages of section 1, by program.
	Manuals map[string][]byte
	// Completions are what shells complete arguments by: by program, and by the place
	// below /usr/share.
	Completions map[string]map[string][]byte
	Out         string   // folder for the packages; made if missing
	Only        []string // the packages to make; nil: all
	Loose       bool     // do not compress, which takes most of the time: for tests
}

// Error says which package could not be built.
type Error struct {
	Package string
	Err     error
}

func (e *Error) Error() string { return fmt.Sprintf("package %s: %v", e.Package, e.Err) }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// versions are what Debian takes (policy 5.6.12), without an epoch and a revision.
var versions = regexp.MustCompile(`^[0-9][A-Za-z0-9.+~]{0,99}$`)

// architectures are Debian's names of ours.
var architectures = map[string]string{"x86_64": "amd64", "arm64": "arm64"}

// Build makes all packages and returns their paths. Errors of one are *Error.
func Build(ctx context.Context, cfg Config) ([]string, error) {
	arch, known := architectures[cfg.Arch]
	switch {
	case !known:
		return nil, fmt.Errorf("deb: architecture %q is neither x86_64 nor arm64", cfg.Arch)
	case !versions.MatchString(cfg.Version):
		return nil, fmt.Errorf("deb: %.100q is no version that Debian takes: it begins with a digit and has letters, digits and .+~", cfg.Version)
	case cfg.Time.Unix() <= 0:
		return nil, errors.New("deb: no date for the files")
	}
	out, err := filepath.Abs(cfg.Out)
	if err == nil {
		err = os.MkdirAll(out, 0o755)
	}
	if err != nil {
		return nil, fmt.Errorf("deb: %w", err)
	}
	var made []string
	for _, p := range packages() {
		if cfg.Only != nil && !slices.Contains(cfg.Only, p.name) {
			continue
		}
		path := filepath.Join(out, fmt.Sprintf("%s_%s_%s.deb", p.name, cfg.Version, arch))
		if err := cfg.build(ctx, p, arch, path); err != nil {
			return made, &Error{p.name, err}
		}
		made = append(made, path)
	}
	return made, nil
}

// build makes one package beside its place, and moves it there.
func (cfg Config) build(ctx context.Context, p pkg, arch, path string) error {
	dir, err := os.MkdirTemp(filepath.Dir(path), ".deb-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	t := &tree{dir: filepath.Join(dir, "root")}
	if err := cfg.fill(t, p, arch); err != nil {
		return err
	}
	if err := t.date(cfg.Time); err != nil {
		return err
	}
	made := filepath.Join(dir, "deb")
	if err := pack(ctx, t.dir, made, cfg); err != nil {
		return err
	}
	return os.Rename(made, path)
}

// pack runs dpkg-deb. One thread, because the compressor makes other bytes with
// several.
func pack(ctx context.Context, dir, out string, cfg Config) error {
	compression := []string{"-Zxz", "-z6"}
	if cfg.Loose {
		compression = []string{"-Znone"}
	}
	args := append(append([]string{"--root-owner-group"}, compression...), "--build", dir, out)
	cmd := exec.CommandContext(ctx, "dpkg-deb", args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DPKG_DEB_THREADS_MAX=1", fmt.Sprintf("SOURCE_DATE_EPOCH=%d", cfg.Time.Unix()))
	said, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("dpkg-deb: %w: %s", err, bytes.TrimSpace(said[:min(len(said), 2000)]))
	}
	return nil
}

// fill puts everything into the tree.
func (cfg Config) fill(t *tree, p pkg, arch string) error {
	for i, program := range slices.Concat(p.programs, p.helpers) {
		data, err := os.ReadFile(filepath.Join(cfg.Programs, program))
		if err != nil {
			return err
		}
		if err := checkProgram(data, arch); err != nil {
			return fmt.Errorf("%s: %w", program, err)
		}
		folder := "usr/bin/"
		if i >= len(p.programs) {
			folder = "usr/lib/plasm/"
		}
		t.add(folder+program, data, 0o755)
		if page := cfg.Manuals[program]; page != nil {
			t.addPacked("usr/share/man/man1/"+program+".1.gz", page)
		}
		for _, place := range slices.Sorted(maps.Keys(cfg.Completions[program])) {
			t.add("usr/share/"+place, cfg.Completions[program][place], 0o644)
		}
	}
	for to, from := range p.files {
		t.addOurs(to, from, 0o644)
	}
	for _, script := range p.scripts {
		t.addOurs("DEBIAN/"+script, "deb/"+p.name+"."+script, 0o755)
	}
	if p.configured {
		t.add("etc/plasm/config.json", cfg.Config, 0o644)
		t.add("DEBIAN/conffiles", []byte("/etc/plasm/config.json\n"), 0o644)
	}
	if err := cfg.document(t, p); err != nil {
		return err
	}
	size := t.size()
	t.add("DEBIAN/md5sums", t.sums(), 0o644)
	t.add("DEBIAN/control", p.control(cfg.Version, arch, size), 0o644)
	return t.err
}

// document adds what Debian wants to be told about a package.
func (cfg Config) document(t *tree, p pkg) error {
	doc := "usr/share/doc/" + p.name + "/"
	text, err := packaging.Files.ReadFile("deb/copyright")
	if err != nil {
		return err
	}
	t.add(doc+"copyright", bytes.ReplaceAll(text, []byte("@PACKAGE@"), []byte(p.name)), 0o644)
	t.addPacked(doc+"changelog.gz", fmt.Appendf(nil, `%s (%s) unstable; urgency=medium

  * Version %s. What has changed stands in
    https://github.com/phasebased/phase/blob/main/CHANGELOG.md

 -- %s  %s
`, p.name, cfg.Version, cfg.Version, maintainer, cfg.Time.UTC().Format(time.RFC1123Z)))
	modules, err := cfg.modules(p)
	if err != nil {
		return err
	}
	t.addPacked(doc+"modules.gz", modules)
	t.addOurs("usr/share/lintian/overrides/"+p.name, "deb/"+p.name+".lintian-overrides", 0o644)
	return nil
}

// modules names what other projects have a part in the programs.
func (cfg Config) modules(p pkg) ([]byte, error) {
	var list strings.Builder
	seen := map[string]bool{}
	for _, program := range slices.Concat(p.programs, p.helpers) {
		info, err := buildinfo.ReadFile(filepath.Join(cfg.Programs, program))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", program, err)
		}
		lines := []string{info.GoVersion}
		for _, m := range info.Deps {
			lines = append(lines, strings.TrimSpace(m.Path+" "+m.Version+" "+m.Sum))
		}
		for _, line := range lines {
			if !seen[line] {
				seen[line] = true
				list.WriteString(line + "\n")
			}
		}
	}
	return []byte(list.String()), nil
}
