package guest

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/internal/vm"
)

// consoleTail is how many console lines are shown with a failure: enough for a
// kernel panic with its trace.
const consoleTail = 80

// Run reports true in the guest, where the test shall go on, and where Unless says
// that none is needed. Otherwise it runs the calling test in a guest, takes over its
// outcome and reports false. The test may be a subtest: then the guest runs its
// parents up to it.
func Run(t *testing.T, cfg Config) bool {
	t.Helper()
	if inGuest() {
		return true
	}
	if isInit() {
		serve()
	}
	if cfg.Unless != nil && cfg.Unless() {
		return true
	}
	h := &host{t: t, cfg: cfg.withDefaults()}
	if h.run() {
		h.judge()
	}
	return false
}

// host is one run of a test in a guest, as its host sees it.
type host struct {
	t        *testing.T
	cfg      Config
	prepared time.Duration // before power on
	outcome  outcome
	started  time.Time // when the test began; zero: it did not
	exit     string    // as in message.Exit
	failure  string    // as in message.Failure
}

var errLate = errors.New("time limit")

// run boots the guest and follows it to its end. It reports false if the test has
// not ended; that has been said then.
func (h *host) run() bool {
	h.t.Helper()
	if _, err := vm.FindQEMU(arch()); err != nil {
		lacking(h.t, err)
	}
	ctx, cancel := context.WithCancelCause(h.t.Context())
	defer cancel(nil)
	dir, begun := h.t.TempDir(), time.Now()
	boot, err := prepare(ctx, h.cfg, dir, h.cfg.spec(h.t.Name()))
	if lack := (*lackError)(nil); errors.As(err, &lack) {
		lacking(h.t, err)
	} else if err != nil {
		h.t.Fatal(err)
	}
	m, err := vm.Start(ctx, boot)
	if err != nil {
		h.t.Fatal(err)
	}
	h.prepared = m.PowerOn().Sub(begun)
	limit := time.AfterFunc(h.cfg.limits.boot, func() { cancel(errLate) })
	h.follow(m, func() { limit.Reset(h.cfg.Timeout + h.cfg.limits.end) })
	limit.Stop()
	exit := m.Quit(ctx)
	if h.exit == "" {
		h.lost(m, exit)
	}
	return h.exit != ""
}

// follow logs what the guest reports until it has said how the test ended, or
// ends itself.
func (h *host) follow(m *vm.Machine, onStart func()) {
	h.t.Helper()
	for r := range m.Report() {
		if r.Dropped > 0 {
			h.t.Errorf("%d pieces of the guest's output are lost", r.Dropped)
		}
		var msg message
		if err := json.Unmarshal(r.Line, &msg); err != nil {
			h.t.Errorf("the guest reported %.80q: %v", r.Line, err)
		}
		if msg.Started {
			h.started = r.At
			onStart()
			accel, _ := m.Accel()
			h.t.Logf("the guest was ready %.1f s after power on (%s), which took %.1f s to prepare",
				r.At.Sub(m.PowerOn()).Seconds(), accel, h.prepared.Seconds())
		}
		for _, line := range h.outcome.write(msg.Output) {
			h.t.Log("| " + line)
		}
		if h.exit, h.failure = msg.Exit, msg.Failure; h.exit+h.failure != "" {
			return
		}
	}
}

// lost says what is known of a guest that did not report the test's end.
func (h *host) lost(m *vm.Machine, exit vm.Exit) {
	h.t.Helper()
	why := "the guest ended before the test did (" + exit.Reason + ")"
	switch {
	case h.failure != "":
		why = "the guest could not be made ready: " + h.failure
	case errors.Is(exit.Err, errLate) && h.started.IsZero():
		why = "the guest hangs: the test did not start within " + h.cfg.limits.boot.String()
	case errors.Is(exit.Err, errLate):
		why = "the guest hangs: no end of the test within " + (h.cfg.Timeout + h.cfg.limits.end).String()
	case exit.Stderr != "":
		why += ": " + exit.Stderr
	}
	h.t.Errorf("%s; its console's last lines:\n%s", why, strings.Join(m.ConsoleTail(consoleTail), "\n"))
}

// judge gives the test and its subtests the outcome that they had in the guest.
func (h *host) judge() {
	h.t.Helper()
	o := h.outcome.tests[h.t.Name()]
	if o == nil {
		h.t.Fatalf("the guest did not run this test: %s", h.exit)
	}
	h.repeat(h.t, o)
	if h.exit != exitOK && !h.t.Failed() {
		h.t.Errorf("the test passed in the guest, but its process ended with %s", h.exit)
	}
}

// repeat lets t end as o did.
func (h *host) repeat(t *testing.T, o *outcomeOf) {
	t.Helper()
	for _, name := range o.children {
		child := h.outcome.tests[name]
		t.Run(strings.TrimPrefix(name, o.name+"/"), func(t *testing.T) {
			t.Helper()
			if child.verdict != passed {
				t.Log(strings.Join(child.lines, "\n"))
			}
			h.repeat(t, child)
		})
	}
	switch {
	case o.verdict == passed:
	case o.verdict == failed:
		t.Error("failed in the guest")
	case o.verdict == skipped && h.cfg.AllowSkip:
		t.Skipf("skipped in the guest: %s", o.reason())
	case o.verdict == skipped:
		t.Errorf("skipped in the guest, which counts as a failure: %s", o.reason())
	default:
		t.Errorf("did not end in the guest: %s", h.exit)
	}
}

// spec is what process 1 shall run: this binary with the flags that decide what
// a test does, in a folder of the same name.
func (c Config) spec(name string) spec {
	var pattern []string
	for _, element := range strings.Split(name, "/") {
		pattern = append(pattern, "^"+regexp.QuoteMeta(element)+"$")
	}
	s := spec{
		Args: []string{"-test.run=" + strings.Join(pattern, "/"), "-test.v=test2json", "-test.count=1", "-test.timeout=" + c.Timeout.String()},
		Env:  []string{"PATH=" + strings.Join(programDirs, ":"), "HOME=/root", "USER=root", "TERM=dumb", "LC_ALL=C.UTF-8"},
	}
	if testing.Short() {
		s.Args = append(s.Args, "-test.short")
	}
	for _, v := range os.Environ() {
		if strings.HasPrefix(v, "PHASE_") {
			s.Env = append(s.Env, v)
		}
	}
	return s
}

// lacking ends a test on a machine that has not what a guest needs.
func lacking(t *testing.T, err error) {
	t.Helper()
	if slices.Contains(os.Environ(), "PHASE_REQUIRE_TOOLS=1") {
		t.Fatalf("PHASE_REQUIRE_TOOLS is set, but: %v", err)
	}
	t.Skip(err)
}
