package debpkg

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/internal/nettest"
)

// native is this machine's architecture, as Debian calls it.
const native = runtime.GOARCH

// buildDeb makes a small real package.
func buildDeb(t *testing.T, dir, name, version, arch string) string {
	t.Helper()
	nettest.Require(t, "dpkg-deb")
	root := filepath.Join(t.TempDir(), "root")
	files := map[string]string{
		"DEBIAN/control": fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: %s\nMaintainer: Nobody <n@example.org>\nDescription: test\n", name, version, arch),
		"usr/lib/x/file": "content\n",
	}
	for path, data := range files {
		full := filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("file", filepath.Join(root, "usr/lib/x/link")); err != nil {
		t.Fatal(err)
	}
	deb := filepath.Join(dir, name+".deb")
	if out, err := exec.Command("dpkg-deb", "--root-owner-group", "--build", root, deb).CombinedOutput(); err != nil {
		t.Fatalf("dpkg-deb: %v\n%s", err, out)
	}
	return deb
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	p := Package{File: filepath.Base(buildDeb(t, dir, "phase-test", "1:2.0-1", "all")), dir: dir}
	got := map[string]string{}
	err := p.Files(t.Context(), func(name string, hdr *tar.Header, r io.Reader) error {
		data, err := io.ReadAll(r)
		got[name] = string(hdr.Typeflag) + string(data) + hdr.Linkname
		return err
	})
	if err != nil || got["usr/lib/x/file"] != "0content\n" || got["usr/lib/x/link"] != "2file" || got["usr"] != "5" {
		t.Errorf("got %q, %v", got, err)
	}
	stop := errors.New("enough")
	if err := p.Files(t.Context(), func(string, *tar.Header, io.Reader) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("callback's error lost: %v", err)
	}
	if err := os.WriteFile(p.Path(), []byte("not a package"), 0o644); err != nil {
		t.Fatal(err)
	}
	var te *ToolError
	err = p.Files(t.Context(), func(string, *tar.Header, io.Reader) error { return nil })
	if !errors.As(err, &te) {
		t.Errorf("damaged package: %v", err)
	}
}

func TestInspect(t *testing.T) {
	p, err := inspect(t.Context(), buildDeb(t, t.TempDir(), "phase-test", "1:2.0~rc1-1+b2", "arm64"))
	if err != nil || p.Name != "phase-test" || p.Version != "1:2.0~rc1-1+b2" || p.Arch != "arm64" || p.SHA256.IsZero() {
		t.Errorf("%+v, %v", p, err)
	}
}

// fakeApt puts an apt-get in front of the PATH that copies a prepared package,
// and counts its runs.
func fakeApt(t *testing.T, deb string) (runs func() int) {
	t.Helper()
	dir := t.TempDir()
	script := fmt.Sprintf("#!/bin/sh\necho run >>%s/log\ncp %s ./downloaded.deb\n", dir, deb)
	if deb == "" {
		script = fmt.Sprintf("#!/bin/sh\necho run >>%s/log\necho 'E: Unable to locate package' >&2\nexit 100\n", dir)
	}
	if err := os.WriteFile(filepath.Join(dir, "apt-get"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return func() int {
		log, _ := os.ReadFile(filepath.Join(dir, "log"))
		return bytes.Count(log, []byte("run"))
	}
}

func TestCache(t *testing.T) {
	runs := fakeApt(t, buildDeb(t, t.TempDir(), "phase-test", "1:2.0", native))
	c := &Cache{Dir: filepath.Join(t.TempDir(), "cache")}
	first, err := c.Get(t.Context(), "phase-test", native)
	if err != nil || first.Version != "1:2.0" || first.File != "phase-test_1%3a2.0_"+native+".deb" {
		t.Fatalf("%+v, %v", first, err)
	}
	c.Offline = true
	again, err := c.Get(t.Context(), "phase-test", native)
	if err != nil || again != first || runs() != 1 {
		t.Errorf("second time: %+v, %v, %d downloads", again, err, runs())
	}
	if _, err := c.Get(t.Context(), "phase-test", "riscv64"); !isMissing(err) {
		t.Errorf("offline, other architecture: %v", err)
	}
	if err := os.WriteFile(first.Path(), []byte("rot"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Get(t.Context(), "phase-test", native); !isMissing(err) {
		t.Errorf("a damaged file was used: %v", err)
	}
	c.Offline = false
	if _, err := c.Get(t.Context(), "phase-test", native); err != nil || runs() != 2 {
		t.Errorf("damaged file not fetched again: %v, %d downloads", err, runs())
	}
	c.Update = true
	if _, err := c.Get(t.Context(), "phase-test", native); err != nil || runs() != 3 {
		t.Errorf("update did not ask apt: %v, %d downloads", err, runs())
	}
	if left, _ := filepath.Glob(filepath.Join(c.Dir, "download-*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// Several packages take one run, and those that are there none.
func TestFetch(t *testing.T) {
	one, two := buildDeb(t, t.TempDir(), "phase-one", "1", native), buildDeb(t, t.TempDir(), "phase-two", "2", native)
	runs := fakeApt(t, one)
	c := &Cache{Dir: filepath.Join(t.TempDir(), "cache")}
	if err := c.Fetch(t.Context(), native, "phase-one", "phase-two"); !isMissing(err) {
		t.Errorf("one package for two: %v", err)
	}
	if err := c.Fetch(t.Context(), native, "phase-one", "../x"); err == nil || runs() != 1 {
		t.Errorf("%v, %d runs", err, runs())
	}
	runs = fakeApt(t, two+" ./two.deb; cp "+one)
	for range 2 {
		if err := c.Fetch(t.Context(), native, "phase-one", "phase-two"); err != nil || runs() != 1 {
			t.Errorf("%v, %d runs", err, runs())
		}
	}
	for name, version := range map[string]string{"phase-one": "1", "phase-two": "2"} {
		if p, err := c.Get(t.Context(), name, native); err != nil || p.Name != name || p.Version != version || runs() != 1 {
			t.Errorf("%+v, %v, %d runs", p, err, runs())
		}
	}
	if err := (&Cache{Dir: t.TempDir(), Offline: true}).Fetch(t.Context(), native, "phase-one"); err != nil || runs() != 1 {
		t.Errorf("offline: %v, %d runs", err, runs())
	}
	fakeApt(t, one+" ./again.deb; cp "+one)
	if err := (&Cache{Dir: t.TempDir()}).Fetch(t.Context(), native, "phase-one", "phase-two"); err == nil {
		t.Error("twice the same package was accepted for two")
	}
}

// foreignApt plays a machine that is not riscv64: apt-get notes what it
// is asked for, makes lists, and has the package once they were fetched so often.
func foreignApt(t *testing.T, deb string, updates int) (asked func() string) {
	t.Helper()
	dir := t.TempDir()
	script := fmt.Sprintf(`#!/bin/sh
log=%s/log
for a; do
	case $a in
	Dir::State=*) state=${a#*=};;
	APT::Architecture=riscv64) foreign=yes;;
	update) echo update >>$log; : >$state/lists/x_Packages;;
	download) [ "$foreign" ] && [ "$(grep -c update $log)" -ge %d ] || { echo 'E: Unable to locate package' >&2; exit 100; }
		echo download >>$log; cp %s ./downloaded.deb;;
	esac
done
`, dir, updates, deb)
	dpkg := "#!/bin/sh\necho " + native + "\n"
	for name, text := range map[string]string{"apt-get": script, "dpkg": dpkg} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return func() string {
		log, _ := os.ReadFile(filepath.Join(dir, "log"))
		return strings.Join(strings.Fields(string(log)), " ")
	}
}

// A foreign architecture is asked for with lists of our own, which are fetched
// once, and again when they are old or lack a package.
func TestForeignArchitecture(t *testing.T) {
	asked := foreignApt(t, buildDeb(t, t.TempDir(), "phase-test", "1", "riscv64"), 1)
	dir := t.TempDir()
	c := &Cache{Dir: filepath.Join(dir, "cache"), Lists: filepath.Join(dir, "lists")}
	if p, err := c.Get(t.Context(), "phase-test", "riscv64"); err != nil || p.Arch != "riscv64" {
		t.Fatalf("%+v, %v", p, err)
	}
	want := "update download"
	if asked() != want {
		t.Errorf("apt was asked to %q, want %q", asked(), want)
	}
	for name, change := range map[string]func(){
		"in the cache": func() {},
		"gone from the cache": func() {
			if err := os.RemoveAll(c.Dir); err != nil {
				t.Fatal(err)
			}
			want += " download"
		},
	} {
		change()
		if _, err := c.Get(t.Context(), "phase-test", "riscv64"); err != nil || asked() != want {
			t.Errorf("%s: apt was asked to %q, want %q; %v", name, asked(), want, err)
		}
	}
	old := time.Now().Add(-listsAge)
	if err := os.Chtimes(filepath.Join(c.Lists, "riscv64", stamp), old, old); err != nil {
		t.Fatal(err)
	}
	c.Update = true
	if _, err := c.Get(t.Context(), "phase-test", "riscv64"); err != nil || asked() != want+" update download" {
		t.Errorf("old lists: apt was asked to %q, %v", asked(), err)
	}
}

func TestForeignListsLackAPackage(t *testing.T) {
	asked := foreignApt(t, buildDeb(t, t.TempDir(), "phase-test", "1", "riscv64"), 2)
	c := &Cache{Dir: t.TempDir()}
	_, err := c.Get(t.Context(), "phase-test", "riscv64")
	var m *MissingError
	if !errors.As(err, &m) || !m.Foreign || asked() != "update" {
		t.Errorf("new lists without the package: %v, apt was asked to %q", err, asked())
	}
	earlier := time.Now().Add(-time.Hour)
	if err := os.Chtimes(filepath.Join(c.Dir, "lists", "riscv64", stamp), earlier, earlier); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Get(t.Context(), "phase-test", "riscv64"); err != nil || asked() != "update update download" {
		t.Errorf("lists of an hour ago: %v, apt was asked to %q", err, asked())
	}
}

func isMissing(err error) bool { var m *MissingError; return errors.As(err, &m) }

func TestCacheRefusals(t *testing.T) {
	runs := fakeApt(t, buildDeb(t, t.TempDir(), "other-package", "1", native))
	c := &Cache{Dir: t.TempDir()}
	if _, err := c.Get(t.Context(), "phase-test", native); err == nil {
		t.Error("another package than asked for was accepted")
	}
	for _, name := range []string{"", "-o", "../x", "a b", "x", "Upper", "a;b"} {
		if _, err := c.Get(t.Context(), name, native); err == nil {
			t.Errorf("name %q accepted", name)
		}
	}
	if runs() != 1 {
		t.Errorf("apt ran %d times; bad names must not reach it", runs())
	}
	for name, lock := range map[string]string{
		"not json":       "x",
		"unknown member": `{"requests":{},"url":"http://x"}`,
		"bad digest":     `{"requests":{"a-b:amd64":[{"sha256":"x"}]}}`,
	} {
		if err := os.WriteFile(filepath.Join(c.Dir, lockName), []byte(lock), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Get(t.Context(), "a-b", native); err == nil || !strings.Contains(err.Error(), "damaged") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLockNamesOutside(t *testing.T) {
	dir := t.TempDir()
	outside := buildDeb(t, dir, "phase-test", "1", "amd64")
	d, err := digestFile(outside)
	if err != nil {
		t.Fatal(err)
	}
	cache := filepath.Join(dir, "cache")
	l := lockFile{Requests: map[string][]Package{"phase-test:amd64": {{Name: "phase-test", File: "../phase-test.deb", SHA256: d}}}}
	if l.usable(cache, "phase-test:amd64") != nil {
		t.Error("a file outside the cache was used")
	}
}

func TestMissingHints(t *testing.T) {
	fakeApt(t, "")
	c := &Cache{Dir: t.TempDir()}
	_, err := c.Get(t.Context(), "no-such-package", native)
	var m *MissingError
	if !errors.As(err, &m) || !strings.Contains(err.Error(), "Unable to locate") || !strings.Contains(m.Hint(), "apt-get update") {
		t.Errorf("%v", err)
	}
	foreign := &MissingError{Package: "x:riscv64", Foreign: true}
	if !strings.Contains(foreign.Hint(), "riscv64") {
		t.Error(foreign.Hint())
	}
	t.Setenv("PATH", t.TempDir())
	_, err = c.Get(t.Context(), "no-such-package", native)
	var te *ToolError
	if !errors.As(err, &te) || te.Tool != "apt-get" || te.Hint() == "" {
		t.Errorf("no apt: %v", err)
	}
}

func TestKernelDepends(t *testing.T) {
	const debian = "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-56-cloud-amd64\n"
	const ubuntu = "linux-image-5.15.0-1-generic\n  Depends: kmod\n |Depends: linux-base\n  Depends: linux-modules-5.15.0-1-generic:any\n  Suggests: linux-image-none\n"
	for in, want := range map[string]string{
		debian: "linux-image-6.1.0-56-cloud-amd64", ubuntu: "linux-modules-5.15.0-1-generic", "": "",
		"  Depends: linux-image-../x\n": "",
	} {
		if got := strings.Join(kernelDepends([]byte(in)), " "); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func TestDistribution(t *testing.T) {
	for in, want := range map[string]string{
		"ID=debian\n": "debian",
		"NAME=x\nID=\"ubuntu\"\nID_LIKE=debian\n":   "ubuntu",
		"ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n": "ubuntu",
		"ID=fedora\n": "fedora",
		"":            "unknown",
	} {
		if got := distributionFrom(strings.NewReader(in)); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func FuzzCleanName(f *testing.F) {
	for _, s := range []string{"./usr/lib", "../x", "/etc/passwd", "./a/../../b", "./", "a\x00b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		clean, err := cleanName(s)
		if err == nil && !filepath.IsLocal(clean) {
			t.Errorf("%q became %q", s, clean)
		}
	})
}
