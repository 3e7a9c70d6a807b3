package guest

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/phasebased/phase/internal/debpkg"
)

// innerVar makes a test do what shall fail; without it the test runs itself as
// another process, with it, and looks at the outcome. It reaches the guest.
const innerVar = "PHASE_GUEST_INNER"

// outer runs the calling test once more, in which it reports "", false. It returns
// what that run printed.
func outer(t *testing.T, env ...string) (string, bool) {
	t.Helper()
	if os.Getenv(innerVar) != "" || isInit() {
		return "", false
	}
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v", "-test.count=1")
	cmd.Env = append(append(os.Environ(), innerVar+"=1"), env...)
	cmd.Dir = t.TempDir()          // below /tmp, most often
	out, _ := cmd.CombinedOutput() // its failure is what is looked for
	return string(out), true
}

// wants checks what a run printed. A guest that cannot be had here is not the
// matter of these tests.
func wants(t *testing.T, out string, texts ...string) {
	t.Helper()
	if strings.HasPrefix(out, "=== RUN   "+t.Name()+"\n") && strings.Contains(out, "\n--- SKIP: "+t.Name()+" ") && !strings.Contains(texts[0], "SKIP") {
		t.Skip(out)
	}
	for _, text := range texts {
		if !strings.Contains(out, text) {
			t.Errorf("no %q", text)
		}
	}
	if t.Failed() {
		t.Log(out)
	}
}

// TestRun looks at everything that a guest is promised to have.
func TestRun(t *testing.T) {
	if !Run(t, Config{
		Modules: []string{"dummy numdummies=3", "8021q"}, Programs: []string{"ip", "/bin/sh", "sleep"},
		Files: []string{"testdata", "/etc/renamed=testdata/tree/sub/file.txt"}, Append: "quiet", CPUs: 2,
	}) {
		return
	}
	t.Run("process", func(t *testing.T) {
		if os.Getpid() == 1 || os.Geteuid() != 0 || os.Getenv("HOME") != "/root" || os.Getenv("GOPATH") != "" {
			t.Errorf("process %d of user %d in %q", os.Getpid(), os.Geteuid(), os.Environ())
		}
		if runtime.NumCPU() != 2 {
			t.Errorf("%d processors", runtime.NumCPU())
		}
	})
	t.Run("files", func(t *testing.T) {
		for _, name := range []string{"testdata/tree/sub/file.txt", "/etc/renamed"} {
			if data, err := os.ReadFile(name); err != nil || string(data) != "carried\n" {
				t.Errorf("%s: %q, %v", name, data, err)
			}
		}
		for _, dir := range []string{t.TempDir(), "/run", "/dev/shm"} {
			if err := os.WriteFile(dir+"/new", nil, 0o600); err != nil {
				t.Error(err)
			}
		}
	})
	t.Run("network", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if _, err := net.Dial("tcp", l.Addr().String()); err != nil {
			t.Error(err)
		}
	})
	t.Run("modules and programs", func(t *testing.T) {
		out, err := exec.Command("sh", "-c", "ip link add link dummy2 name dummy2.7 type vlan id 7 && ip -brief link").CombinedOutput()
		if err != nil || !strings.Contains(string(out), "dummy2.7@dummy2") {
			t.Errorf("%v: %s", err, out)
		}
	})
	// What is left over, with our output open, holds nobody up.
	if err := exec.Command("sh", "-c", "sleep 1000 & echo from a shell").Run(); err != nil {
		t.Error(err)
	}
	left := exec.Command("sleep", "1000")
	left.Stdout = os.Stdout
	if err := left.Start(); err != nil {
		t.Error(err)
	}
}

// TestUnless: a host that has everything needs no guest.
func TestUnless(t *testing.T) {
	if !Run(t, Config{Unless: func() bool { return true }, Modules: []string{"phase_none"}}) {
		t.Error("a guest was asked")
	}
	if inGuest() {
		t.Error("this is a guest")
	}
}

// TestOutcomes: one guest has subtests of every kind, and panics.
func TestOutcomes(t *testing.T) {
	if out, ok := outer(t); ok {
		wants(t, out, "--- FAIL: TestOutcomes ", "    --- PASS: TestOutcomes/passes ", "    --- FAIL: TestOutcomes/fails ",
			"a reason to fail", "        --- PASS: TestOutcomes/fails/but_not_its_child ", "    --- FAIL: TestOutcomes/skips ",
			"skipped in the guest, which counts as a failure", "a reason to skip", "    --- FAIL: TestOutcomes/panics ", "panic: a reason to panic", "failed in the guest")
		if strings.Contains(out, "not reached") {
			t.Error(out)
		}
		return
	}
	if !Run(t, Config{}) {
		return
	}
	t.Run("passes", func(t *testing.T) {
		if dir, err := os.Getwd(); err != nil || !strings.Contains(dir, "TestOutcomes") {
			t.Errorf("in folder %s, %v", dir, err)
		}
	})
	t.Run("fails", func(t *testing.T) {
		t.Run("but not its child", func(t *testing.T) {})
		t.Error("a reason to fail")
	})
	t.Run("skips", func(t *testing.T) { t.Skip("a reason to skip") })
	t.Run("panics", func(t *testing.T) { panic("a reason to panic") })
	t.Log("not reached")
}

// TestTimeout: a test that waits for nothing is ended with a trace of its
// goroutines.
func TestTimeout(t *testing.T) {
	if out, ok := outer(t); ok {
		wants(t, out, "--- FAIL: TestTimeout ", "panic: test timed out after 2s", "goroutine ", "did not end in the guest: exit status 2")
		return
	}
	if Run(t, Config{Timeout: 2 * time.Second}) {
		select {}
	}
}

// TestHang: nothing in the guest ends a process that is stopped.
func TestHang(t *testing.T) {
	if out, ok := outer(t); ok {
		wants(t, out, "--- FAIL: TestHang ", "the guest hangs: no end of the test within 3s", "its console's last lines")
		return
	}
	if Run(t, Config{Timeout: 2 * time.Second, limits: limits{end: time.Second}}) {
		if err := unix.Kill(os.Getpid(), unix.SIGSTOP); err != nil {
			t.Error(err)
		}
	}
}

// TestSlowBoot: a machine that never comes to the test.
func TestSlowBoot(t *testing.T) {
	if out, ok := outer(t); ok {
		wants(t, out, "--- FAIL: TestSlowBoot ", "the guest hangs: the test did not start within 100ms")
		return
	}
	if Run(t, Config{limits: limits{boot: 100 * time.Millisecond}}) {
		t.Error("the guest came all the same")
	}
}

func TestKernelPanic(t *testing.T) {
	if out, ok := outer(t); ok {
		wants(t, out, "--- FAIL: TestKernelPanic ", "the guest ended before the test did (guest-", "Kernel panic - not syncing: sysrq triggered crash")
		return
	}
	if Run(t, Config{}) {
		if err := os.WriteFile("/proc/sysrq-trigger", []byte("c"), 0); err != nil {
			t.Error(err)
		}
	}
}

func TestModuleDoesNotLoad(t *testing.T) {
	if out, ok := outer(t); ok {
		wants(t, out, "--- FAIL: TestModuleDoesNotLoad ", "the guest could not be made ready: load dummy.ko numdummies=many: invalid argument")
		return
	}
	if Run(t, Config{Modules: []string{"dummy numdummies=many"}}) {
		t.Error("the test is run all the same")
	}
}

func TestMissing(t *testing.T) {
	tests := []struct {
		name   string
		cfg    Config
		strict string // PHASE_REQUIRE_TOOLS
		want   []string
	}{
		{"module", Config{Modules: []string{"phase_none"}}, "0", []string{"--- FAIL:", "no module phase_none in this kernel's package"}},
		{"program", Config{Programs: []string{"phase-none"}}, "1", []string{"--- FAIL:", "find program phase-none"}},
		{"program, skipped", Config{Programs: []string{"phase-none"}}, "0", []string{"--- SKIP:", "find program phase-none"}},
		{"package", Config{Packages: []string{"phase-none"}}, "1", []string{"--- FAIL:", "package phase-none:"}},
		{"file", Config{Files: []string{"testdata/none"}}, "1", []string{"--- FAIL:", "file testdata/none"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if out, ok := outer(t, "PHASE_REQUIRE_TOOLS="+tt.strict); ok {
				wants(t, out, tt.want...)
				return
			}
			if Run(t, tt.cfg) {
				t.Error("the test is run all the same")
			}
		})
	}
}

// TestJudge: what a guest may say without having run the test to a good end.
func TestJudge(t *testing.T) {
	const run, pass, skip = "\x16=== RUN   TestJudge/%s\n", "\x16--- PASS: TestJudge/%s (0.00s)\n", "\x16--- SKIP: TestJudge/%s (0.00s)\n"
	tests := []struct {
		name, output, exit string
		cfg                Config
		want               []string
	}{
		{"good", run + pass, exitOK, Config{}, []string{"--- PASS:"}},
		{"passed_and_failed", run + pass, "exit status 1", Config{}, []string{"--- FAIL:", "passed in the guest, but its process ended with exit status 1"}},
		{"never_run", "testing: warning: no tests to run\n", exitOK, Config{}, []string{"--- FAIL:", "the guest did not run this test: exit status 0"}},
		{"unfinished", run, exitOK, Config{}, []string{"--- FAIL:", "did not end in the guest: exit status 0"}},
		{"skipped", run + "it rains\n" + skip, exitOK, Config{}, []string{"--- FAIL:", "skipped in the guest, which counts as a failure: it rains"}},
		{"skip_allowed", run + "it rains\n" + skip, exitOK, Config{AllowSkip: true}, []string{"--- SKIP:", "skipped in the guest: it rains"}},
		{"skip_allowed_without_a_word", run + skip, exitOK, Config{AllowSkip: true}, []string{"--- SKIP:", "it did not say why"}},
		{"another_killed", run + pass, "killed by killed", Config{AllowSkip: true}, []string{"--- FAIL:", "killed by killed"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if out, ok := outer(t); ok {
				wants(t, out, append([]string{tt.want[0] + " " + t.Name()}, tt.want[1:]...)...)
				return
			}
			h := &host{t: t, cfg: tt.cfg, exit: tt.exit}
			h.outcome.write([]byte(strings.ReplaceAll(tt.output, "%s", tt.name)))
			h.judge()
		})
	}
}

// TestHint: what would bring a missing thing is said with it.
func TestHint(t *testing.T) {
	err := error(&lackError{&debpkg.MissingError{Package: "hostapd:amd64", Err: errors.New("not found")}})
	if !strings.Contains(err.Error(), "apt-get update") {
		t.Error(err)
	}
}
