// Package vm_test boots the shipped medium in virtual machines: the whole walk,
// and each refusal, which must show its message and run nothing unverified.
package vm_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/phasebased/phase/internal/image"
	"github.com/phasebased/phase/internal/lab"
	"github.com/phasebased/phase/internal/nettest"
	"github.com/phasebased/phase/internal/release"
	"github.com/phasebased/phase/internal/system"
	"github.com/phasebased/phase/internal/vm"
)

// bootWithin bounds one boot. Emulation on a busy machine is slow; a boot that
// works takes a tenth of this.
const bootWithin = 4 * time.Minute

// repository is the root of the sources, where make has put the programs.
const repository = "../.."

// loudKernel is the release's command line in these tests: a second kernel that
// runs shows its banner on the serial console.
const loudKernel = "console=ttyS0,115200 no_timer_check panic=30"

// loudKernels are those of all architectures.
var loudKernels = map[string]string{vm.X8664: loudKernel, vm.ARM64: "console=ttyAMA0,115200 panic=30"}

// testCache is the size of the cache partition: small, because some tests read
// whole images.
const testCache = 128 << 20

// banner is what a kernel that was not told to be quiet begins with. The seed's
// kernel is quiet, so the banner belongs to the system that was handed over to.
var banner = regexp.MustCompile(`Linux version [0-9]`)

// newLab builds the systems once for all tests.
var newLab = sync.OnceValues(func() (*lab.Lab, error) { return labFor(vm.X8664) })

// newLabARM64 builds those for arm64.
var newLabARM64 = sync.OnceValues(func() (*lab.Lab, error) { return labFor(vm.ARM64) })

func labFor(arch string) (*lab.Lab, error) {
	programs := filepath.Join(repository, "build", "bin")
	work, err := filepath.Abs(filepath.Join(repository, "build", "lab"))
	if err != nil {
		return nil, err
	}
	return lab.New(context.Background(), lab.Config{
		Arch: arch, Target: filepath.Join(repository, "build", "target", arch),
		Plasmd: filepath.Join(programs, "plasmd"), Work: work, Version: labVersion, Time: labTime,
	})
}

// What the tests' builds are called and dated: fixed, so that what is unchanged
// since the last run need not be built again.
const labVersion = "test"

var labTime = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// bench is one test's publisher, provider and medium.
type bench struct {
	*testing.T
	lab       *lab.Lab
	run       string
	ports     lab.Ports
	published *release.Published
	provider  *lab.Provider
	image     string
	cache     image.Partition // of image
	last      lab.LastWord
}

// setup builds what is shared and prepares a folder for this test.
func setup(t *testing.T) *bench {
	t.Helper()
	return setupArch(t, vm.X8664)
}

// setupArch is setup with machines of an architecture.
func setupArch(t *testing.T, arch string) *bench {
	t.Helper()
	for _, needed := range []string{"build/bin/plasmd", "build/target/" + arch + "/phase-init"} {
		if _, err := os.Stat(filepath.Join(repository, needed)); errors.Is(err, os.ErrNotExist) {
			skip(t, needed+" is missing: run `make tools target ARCH="+arch+"` first")
		}
	}
	if _, err := vm.FindQEMU(arch); err != nil {
		skip(t, err.Error())
	}
	build := newLab
	if arch == vm.ARM64 {
		build = newLabARM64
	}
	l, err := build()
	if err != nil {
		t.Fatal(err)
	}
	ports, err := lab.FreePorts()
	if err != nil {
		t.Fatal(err)
	}
	return &bench{T: t, lab: l, run: t.TempDir(), ports: ports}
}

// skip says why a test cannot run here; in CI that is a failure.
func skip(t *testing.T, reason string) {
	t.Helper()
	nettest.Lacking(t, "PHASE_REQUIRE_TOOLS", reason)
}

// release is an honest release for the caller to change.
func (b *bench) release(version int64) release.Release {
	r := b.lab.Release(version, b.ports.Base())
	r.Cmdline = loudKernels[b.lab.Arch()]
	return r
}

// publish lays out a release in this test's folder.
func (b *bench) publish(r release.Release, tamper string) {
	b.Helper()
	var err error
	if b.published, err = b.lab.Publish(filepath.Join(b.run, "published"), r, tamper); err != nil {
		b.Fatal(err)
	}
}

// serve starts a provider for what is published now.
func (b *bench) serve() {
	b.Helper()
	var err error
	b.provider, err = b.lab.Serve(b.Context(), filepath.Join(b.run, "published"), b.ports, b.run)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(b.provider.Stop)
}

// medium writes the USB image.
func (b *bench) medium(o lab.ImageOptions) {
	b.Helper()
	b.image = cmp.Or(o.Out, filepath.Join(b.run, "phase.img"))
	o.Out = b.image
	if o.Mode == "" {
		o.Mode = "internet"
	}
	if o.Cache == 0 {
		o.Cache = testCache
	}
	if o.Policy == "" {
		o.Policy = timeOf("", "")
	}
	if b.lab.Flavour() != system.FlavourCloud {
		o.Options = strings.TrimSpace(o.Options + " " + lab.TimerUnchecked) // which others have
	}
	if b.provider != nil {
		o.Nodes = []lab.Node{{PeerID: b.provider.Ready.PeerID, Address: b.provider.Bootstrap()}}
	}
	report, err := b.lab.Image(b.Context(), o)
	if err != nil {
		b.Fatal(err)
	}
	b.cache = report.Partitions[len(report.Partitions)-1]
}

// timeOf is a policy by which only these servers are asked for the time, if any:
// no test depends on those of others.
func timeOf(plain, nts string) string {
	list := func(server string) string {
		if server == "" {
			return "[]"
		}
		return fmt.Sprintf("[%q]", server)
	}
	return fmt.Sprintf("[time]\ndhcp = false\nservers = %s\nnts = %s\n", list(plain), list(nts))
}

// boot starts the machine and follows it to its end. It returns what happened
// and what the console showed.
func (b *bench) boot(o lab.BootOptions) (*lab.Outcome, string) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), bootWithin)
	defer cancel()
	o.Image, o.Run = b.image, b.run
	machine, err := b.lab.Boot(ctx, o)
	if err != nil {
		b.Fatal(err)
	}
	outcome, err := lab.Follow(ctx, machine, b.last)
	shown := b.lastWords(ctx, machine, outcome)
	machine.Quit(ctx)
	if err != nil {
		b.Fatalf("%v; the console shows:\n%s", err, shown)
	}
	b.Logf("%s: %.1f s", outcome.Accel, outcome.Elapsed.Seconds())
	return outcome, shown
}

// lastWords waits until the console has caught up with the report port.
func (b *bench) lastWords(ctx context.Context, machine *vm.Machine, outcome *lab.Outcome) string {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	last := b.lastWord(outcome)
	machine.WaitConsole(ctx, func(line string) bool { return strings.Contains(line, last) })
	return strings.Join(machine.ConsoleTail(1000), "\n")
}

// lastWord is what the console shows at the end of such an outcome.
func (b *bench) lastWord(outcome *lab.Outcome) string {
	switch {
	case outcome.Node != nil && outcome.Failure != nil:
		return "What you can do"
	case outcome.Failure != nil:
		return "boot is tried again" // the last line of what a person can do
	case b.last == lab.ReceiptShown:
		return "receipt is signed"
	}
	return "Timeline"
}

// refused asserts that the seed stopped with a code and a text, showed that
// text, and that nothing it did not verify ran.
func (b *bench) refused(o *lab.Outcome, console, code, text string) {
	b.Helper()
	if o.Failure == nil {
		b.Fatalf("the machine did not stop; it showed:\n%s", calm(console))
	}
	if o.Failure.Code != code || !strings.Contains(o.Failure.Text, text) {
		b.Errorf("the machine stopped with %s %q, want %s %q", o.Failure.Code, o.Failure.Text, code, text)
	}
	if !strings.Contains(unwrap(console), unwrap(text)) {
		b.Errorf("the console does not show %q:\n%s", text, calm(console))
	}
	if !strings.Contains(console, code) {
		b.Errorf("the console does not show the code %s:\n%s", code, console)
	}
	if err := lab.CheckSeedStopped(o); err != nil {
		b.Error(err)
	}
	if banner.MatchString(console) {
		b.Errorf("a second kernel ran:\n%s", console)
	}
}

// kernelLine is what a kernel that was not told to be quiet says.
var kernelLine = regexp.MustCompile(`(?m)^\[ *[0-9]+\.[0-9]{6}\] .*\n`)

// calm is a console without what the kernels said.
func calm(console string) string { return kernelLine.ReplaceAllString(console, "") }

// unwrap undoes the wrapping of a text at the console's width.
func unwrap(text string) string { return strings.Join(strings.Fields(text), "") }

// verified asserts the whole walk: the handed-over kernel ran and delivered a
// receipt that verifies.
func (b *bench) verified(o *lab.Outcome, console string) {
	b.Helper()
	if o.Failure != nil {
		b.Fatalf("the machine stopped: %s %s; it showed:\n%s", o.Failure.Code, o.Failure.Text, calm(console))
	}
	if err := b.lab.Collect(b.provider, o, b.published); err != nil {
		b.Fatal(err)
	}
	if n := len(banner.FindAllString(console, -1)); n != 1 {
		b.Errorf("%d kernels showed a banner, want the verified one:\n%s", n, console)
	}
}

// bootFrom publishes a release, perhaps tampered with, and boots a new medium.
func (b *bench) bootFrom(r release.Release, tamper string) (*lab.Outcome, string) {
	b.Helper()
	b.publish(r, tamper)
	b.serve()
	b.medium(lab.ImageOptions{})
	return b.boot(lab.BootOptions{})
}

func TestPowerOnToReceipt(t *testing.T) {
	b := setup(t)
	outcome, console := b.bootFrom(b.release(1), "")
	b.verified(outcome, console)
	walls := outcome.Receipt.Statement.Observation.Walls
	for _, want := range []string{ // plasmd has six capabilities, and needs no more for them
		"wasm", "process", "fresh-process", "wall-deadline", "rlimits", "no-new-privs", "undumpable", "unprivileged-user", "empty-root",
		"seccomp", "network-namespace", "pid-namespace", "ipc-namespace", "mount-namespace",
	} {
		if !slices.Contains(walls, want) {
			t.Errorf("the receipt lacks the wall %s: %q", want, walls)
		}
	}
	t.Logf("walls: %q", walls)
	var names []string
	for _, s := range outcome.Stages {
		names = append(names, s.Name)
		if s.End < s.Start {
			t.Errorf("stage %s ends before it starts", s.Name)
		}
	}
	for _, want := range []string{"firmware", "seed", "network", "discovery", "verify", "fetch", "hand-over", "node", "first job"} {
		if !slices.Contains(names, want) {
			t.Errorf("the timeline lacks %q: %v", want, names)
		}
	}
	for _, want := range []string{"Phase Boot", "Internet Mode", "Network", "Discover", "Verify", "Fetch", "Starting the verified system", "This machine is a Phase node", lab.HelloAnswer, outcome.Node.PeerID} {
		if !strings.Contains(console, want) {
			t.Errorf("the console does not show %q:\n%s", want, console)
		}
	}
}

// TestLocalMode finds the provider by the address that was typed in, and asks
// neither the DHT nor anybody else.
func TestLocalMode(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.publish(b.release(1), "")
	b.serve()
	b.medium(lab.ImageOptions{Mode: "local", Options: "phase.provider=" + b.ports.Base()})
	outcome, console := b.boot(lab.BootOptions{})
	b.verified(outcome, console)
	if strings.Contains(console, "dht ") {
		t.Errorf("local mode has asked the DHT:\n%s", console)
	}
}

func TestTamperedKernel(t *testing.T) {
	t.Parallel()
	b := setup(t)
	outcome, console := b.bootFrom(b.release(1), "kernel")
	want := "FATAL: Artifact kernel hash mismatch (expected " + b.published.Blobs["kernel"].String() + ")"
	b.refused(outcome, console, "FETCH-002", want)
}

func TestManifestOfStrangers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	outcome, console := b.bootFrom(b.release(1), "manifest")
	b.refused(outcome, console, codeSignature, "FATAL: Manifest signature verification failed")
}

func TestPointerOfStranger(t *testing.T) {
	t.Parallel()
	b := setup(t)
	outcome, console := b.bootFrom(b.release(1), "pointer")
	b.refused(outcome, console, codeSignature, "FATAL: Pointer signature verification failed")
}

func TestNoNetwork(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.medium(lab.ImageOptions{})
	outcome, console := b.boot(lab.BootOptions{NoNet: true})
	b.refused(outcome, console, "NET-001", "no network interface was found")
}

func TestProviderDisappears(t *testing.T) {
	t.Parallel()
	b := setup(t)
	front := newFront(t)
	r := b.release(1)
	r.Bases = []string{"http://" + lab.GuestHost + ":" + front.port()}
	b.publish(r, "")
	b.serve()
	front.start(b.ports.HTTP, b.published.Blobs["kernel"].Hex())
	b.medium(lab.ImageOptions{})
	outcome, console := b.boot(lab.BootOptions{})
	// The artifacts are fetched side by side: whichever gives up first is named.
	text := "ERROR: Failed to fetch "
	b.refused(outcome, console, "FETCH-001", text)
	if !regexp.MustCompile(text + "(kernel|initramfs|rootfs) after 3 retries").MatchString(outcome.Failure.Text) {
		t.Errorf("the machine said %q", outcome.Failure.Text)
	}
	if !front.vanished() {
		t.Error("the provider was never asked for the kernel")
	}
}

func TestTamperedJob(t *testing.T) {
	t.Parallel()
	b := setup(t)
	outcome, console := b.bootFrom(b.release(1), "hello")
	if outcome.Failure == nil || outcome.Failure.Code != "FETCH-002" {
		t.Fatalf("the node ran a changed module: %+v\n%s", outcome.Failure, console)
	}
	if want := "FATAL: Artifact hello hash mismatch"; !strings.Contains(console, want) {
		t.Errorf("the console does not show %q:\n%s", want, console)
	}
	if got, err := b.provider.Received(); err != nil || len(got) != 0 {
		t.Errorf("a receipt was delivered: %d, %v", len(got), err)
	}
}

// front is a provider that disappears: it passes requests on until half of one
// blob was sent, then cuts that connection and closes its door.
type front struct {
	*testing.T
	server *http.Server
	gone   chan struct{}
	once   sync.Once
	listen *listener
}

func newFront(t *testing.T) *front {
	t.Helper()
	l, err := newListener()
	if err != nil {
		t.Fatal(err)
	}
	f := &front{T: t, gone: make(chan struct{}), listen: l}
	t.Cleanup(f.vanish)
	return f
}

func (f *front) port() string { return f.listen.port }

func (f *front) start(backend int, hex string) {
	target := &url.URL{Scheme: "http", Host: loopback(backend)}
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.ModifyResponse = func(r *http.Response) error {
		if strings.Contains(r.Request.URL.Path, hex) {
			r.Body = &half{ReadCloser: r.Body, left: r.ContentLength / 2, end: f.vanish}
		}
		return nil
	}
	f.server = &http.Server{Handler: proxy}
	go f.server.Serve(f.listen) // ends with vanish
}

// vanish closes the door and every open connection.
func (f *front) vanish() {
	f.once.Do(func() {
		close(f.gone)
		f.listen.Close()
		if f.server != nil {
			f.server.Close()
		}
	})
}

func (f *front) vanished() bool {
	select {
	case <-f.gone:
		return true
	default:
		return false
	}
}

// half passes on the first bytes of a body, then calls end and fails.
type half struct {
	io.ReadCloser
	left int64
	end  func()
}

func (h *half) Read(p []byte) (int, error) {
	if h.left <= 0 {
		h.end()
		return 0, io.ErrUnexpectedEOF
	}
	n, err := h.ReadCloser.Read(p[:min(int64(len(p)), h.left)])
	h.left -= int64(n)
	return n, err
}
