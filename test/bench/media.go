package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/phasebased/phase/internal/system"
)

// mediaBuild is one medium, built by `phase image build` and, from the same
// contents, by the programs that Debian has for each step.
type mediaBuild struct {
	dir    string // of this run
	inputs string // packages and what is unpacked of them
	phase  string
	image  string // the medium as phase builds it
	level  int    // of zstd: the quickest that packs the seed as well as phase does
	env    []string
}

// mediaTook is what one build cost.
type mediaTook struct{ wall, cpu float64 } // seconds

// sgdiskPauses is how long sgdisk sleeps when it has written a table, in seconds: a
// person waits for it, but it is no work.
const sgdiskPauses = 1

// mediaFigures compares the build of a medium with a pipeline of Debian's programs
// that makes one with the same contents: cpio and zstd for the seed, mksquashfs,
// sgdisk, mformat, mcopy and mke2fs. Both have their packages unpacked, and
// nothing that they have made before. Each program has as many threads as it takes
// by itself: phase and mksquashfs one for each processor, zstd and the others one.
func mediaFigures(ctx context.Context, pairs int) ([]Figure, error) {
	m, err := newMediaBuild(ctx)
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(m.dir)
	if err := m.stage(ctx); err != nil {
		return nil, err
	}
	var ours, again, theirs []mediaTook
	for i := range pairs {
		for _, side := range []struct {
			build func(context.Context) (mediaTook, error)
			into  *[]mediaTook
		}{{m.cold, &ours}, {m.phaseBuild, &again}, {m.pipeline, &theirs}} {
			took, err := side.build(ctx)
			if err != nil {
				return nil, err
			}
			*side.into = append(*side.into, took)
		}
		fmt.Fprintf(os.Stderr, "pair %d: phase %.2f s, reused %.2f s, pipeline %.2f s\n", i+1, ours[i].wall, again[i].wall, theirs[i].wall)
	}
	return m.figures(ctx, ours, again, theirs)
}

func (m *mediaBuild) figures(ctx context.Context, ours, again, theirs []mediaTook) ([]Figure, error) {
	wall := func(t mediaTook) float64 { return t.wall }
	cpu := func(t mediaTook) float64 { return t.cpu }
	a, b := medianOf(ours, wall), medianOf(theirs, wall)
	with := fmt.Sprintf(" (reference: mtools, sgdisk, mksquashfs, cpio, zstd -%d, mke2fs)", m.level)
	payload, err := m.payload()
	if err != nil {
		return nil, err
	}
	installer, err := m.installer(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, "media: no network installer to compare the size with:", err)
	}
	seed, err := os.Stat(m.at("seed.img"))
	if err != nil {
		return nil, err
	}
	theirSeed, err := os.Stat(m.at("their-seed.img"))
	if err != nil {
		return nil, err
	}
	boot, size := float64(payload.boot), 0.0
	if installer > 0 {
		size = boot / installer
	}
	return []Figure{
		{"build an image from warm packages" + with, a, "s", b, a / b, "ratio <= 0.7"},
		{"the same, without sgdisk's pause of 1 s", a, "s", b - sgdiskPauses, a / (b - sgdiskPauses), "ratio <= 1"},
		{"the same, processor time", medianOf(ours, cpu), "s", medianOf(theirs, cpu), medianOf(ours, cpu) / medianOf(theirs, cpu), ""},
		{"build an image of which everything is reused", medianOf(again, wall), "s", b, medianOf(again, wall) / b, ""},
		{fmt.Sprintf("seed (reference: zstd -%d)", m.level), float64(seed.Size()) / 1e6, "MB", float64(theirSeed.Size()) / 1e6, float64(seed.Size()) / float64(theirSeed.Size()), ""},
		{"x86_64 image: kernel, seed and loader (reference: kernel and initrd of Debian's network installer)", boot / 1e6, "MB", installer / 1e6, size, "<= 40 MB"},
		{"x86_64 image: bytes that are no holes", float64(payload.blocks) / 1e6, "MB", 0, 0, ""},
	}, nil
}

// newMediaBuild builds the medium once, so that all packages are there, and looks
// into it.
func newMediaBuild(ctx context.Context) (*mediaBuild, error) {
	root := filepath.Join("build", "bench")
	if err := os.MkdirAll(root, 0o755); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(root, "_media-") // the go command looks for no packages there
	if err != nil {
		return nil, err
	}
	m := &mediaBuild{}
	for path, to := range map[string]*string{
		dir: &m.dir, filepath.Join("build", "lab", "inputs"): &m.inputs, filepath.Join("build", "bin", "phase"): &m.phase,
	} {
		if *to, err = filepath.Abs(path); err != nil {
			return nil, err
		}
	}
	m.image = m.at("ours.img")
	m.env = append(os.Environ(), "LC_ALL=C", "TZ=UTC", "SOURCE_DATE_EPOCH=1767225600", "MTOOLS_SKIP_CHECK=1",
		"PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	if err := os.MkdirAll(m.inputs, 0o755); err != nil {
		return nil, err
	}
	_, err = m.cold(ctx)
	return m, err
}

func (m *mediaBuild) at(name string) string { return filepath.Join(m.dir, name) }

// run runs a program in the folder of this run and says what it and the programs
// that it started took.
func (m *mediaBuild) run(ctx context.Context, name string, args ...string) (mediaTook, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	var chatter bytes.Buffer
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = m.dir, m.env, &chatter, &chatter
	start := time.Now()
	err := cmd.Run()
	took := mediaTook{wall: time.Since(start).Seconds()}
	if err != nil {
		return took, fmt.Errorf("%s: %w: %s", name, err, chatter.String())
	}
	took.cpu = (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()
	return took, nil
}

// cold builds in an empty work folder, but for the packages.
func (m *mediaBuild) cold(ctx context.Context) (mediaTook, error) {
	work := m.at("work")
	if err := errors.Join(os.RemoveAll(work), os.Mkdir(work, 0o755), os.Symlink(m.inputs, filepath.Join(work, "inputs"))); err != nil {
		return mediaTook{}, err
	}
	return m.phaseBuild(ctx)
}

// phaseBuild builds with what is in the work folder.
func (m *mediaBuild) phaseBuild(ctx context.Context) (mediaTook, error) {
	target, err := filepath.Abs(filepath.Join("build", "target", "x86_64"))
	if err != nil {
		return mediaTook{}, err
	}
	return m.run(ctx, m.phase, "image", "build", "--arch", "x86_64", "--flavour", "cloud", "--chain", string(system.ChainSystemdBoot),
		"--work", m.at("work"), "--target", target, "--out", m.image)
}

// stage takes the medium apart, by others' programs, for the pipeline to put
// together again. Devices are left out: only root can make them. The seed may end in
// zeros, which the kernel skips and zstd complains of.
func (m *mediaBuild) stage(ctx context.Context) error {
	const script = `
mkdir esp seed
part() { sgdisk -i "$1" "$2" | awk '/^First sector/ {print $3 * 512}'; }
mcopy -s -n -i "ours.img@@$(part 1 ours.img)" ::/ esp
cp "$(find esp -name initramfs.img)" seed.img
zstd -dcq seed.img > seed.cpio || tail -c 1024 seed.cpio | grep -aq 'TRAILER!!!'
(cd seed && cpio -idm --quiet --nonmatching 'dev/*' < ../seed.cpio)
tail -c "+$(($(part 2 ours.img) + 1))" ours.img | head -c 1048576 > policy.squashfs
unsquashfs -q -n -d policy policy.squashfs
rm "$(find esp -name initramfs.img)"
`
	if _, err := m.run(ctx, "sh", "-ec", script); err != nil {
		return err
	}
	ours, err := os.Stat(m.at("seed.img"))
	if err != nil {
		return err
	}
	for m.level = 1; m.level < 19; m.level++ {
		if _, err := m.run(ctx, "zstd", "-qf", "-"+strconv.Itoa(m.level), "seed.cpio", "-o", "level.zst"); err != nil {
			return err
		}
		if theirs, err := os.Stat(m.at("level.zst")); err == nil && theirs.Size() <= ours.Size() {
			return nil
		}
	}
	return fmt.Errorf("no level of zstd packs the seed into %d bytes", ours.Size())
}

// pipeline makes the same medium with Debian's programs.
func (m *mediaBuild) pipeline(ctx context.Context) (mediaTook, error) {
	const script = `
rm -f theirs.img their-seed.img policy.squashfs
(cd seed && find . -mindepth 1 | sort | cpio -o -H newc -R 0:0 --reproducible --quiet) | zstd -q "-$LEVEL" > their-seed.img
mksquashfs policy policy.squashfs -comp zstd -b 256K -all-root -noappend -no-xattrs -quiet -no-progress
truncate -s 1315M theirs.img
sgdisk -n 1:1M:+288M -t 1:ef00 -c 1:phase-esp -n 2:0:+1M -c 2:phase-seed -n 3:0:+1G -c 3:phase-cache theirs.img
mformat -i theirs.img@@1M -F -c 8 -h 255 -s 63 -T $((288 * 2048)) -v PHASE-ESP ::
mcopy -s -i theirs.img@@1M esp/* ::/
mcopy -i theirs.img@@1M their-seed.img ::/phase/x86_64/initramfs.img
dd if=policy.squashfs of=theirs.img bs=1M seek=289 conv=notrunc status=none
mke2fs -q -F -t ext4 -L phase-cache -J size=8 -i 65536 -m 0 -E offset=$((290 << 20)),lazy_itable_init=0,lazy_journal_init=0,nodiscard theirs.img 1G
`
	return m.run(ctx, "env", "LEVEL="+strconv.Itoa(m.level), "sh", "-ec", script)
}

// mediaPayload is what a medium holds, in bytes.
type mediaPayload struct{ boot, blocks int64 }

func (m *mediaBuild) payload() (p mediaPayload, err error) {
	var st syscall.Stat_t
	if err := syscall.Stat(m.image, &st); err != nil {
		return p, err
	}
	p.blocks = st.Blocks * 512
	seed, err := os.Stat(m.at("seed.img"))
	if err != nil {
		return p, err
	}
	p.boot = seed.Size()
	err = filepath.WalkDir(m.at("esp"), func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			p.boot += info.Size()
		}
		return err
	})
	return p, err
}

// installer returns the size of kernel and initrd of Debian's network installer, which
// does on real machines what the seed does: it finds network and fetches the rest.
func (m *mediaBuild) installer(ctx context.Context) (float64, error) {
	const name, in = "debian-installer-12-netboot-amd64", "./usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64/"
	cache, err := filepath.Abs(filepath.Join("build", "bench", "_installer"))
	if err != nil {
		return 0, err
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return 0, err
	}
	// Apt takes a package that is there already, if it is whole.
	script := fmt.Sprintf(`cd %q; ls %s_*.deb >/dev/null 2>&1 || apt-get -qq download %s
dpkg-deb --fsys-tarfile %s_*.deb | tar -x --strip-components=10 -C %q %slinux %sinitrd.gz`, cache, name, name, name, m.dir, in, in)
	if _, err := m.run(ctx, "sh", "-ec", script); err != nil {
		return 0, err
	}
	var total float64
	for _, file := range strings.Fields("linux initrd.gz") {
		info, err := os.Stat(m.at(file))
		if err != nil {
			return 0, err
		}
		total += float64(info.Size())
	}
	return total, nil
}
