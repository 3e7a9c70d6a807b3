package handover

import (
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// step is a rung of tests: its errors, and what was asked of it.
type step struct {
	name                                string
	log                                 *[]string
	probeErr, loadErr, dropErr, jumpErr error
	cmdline                             string
	initrd                              []byte
	kernelSize                          int64
	sizeErr                             error
}

func (s *step) note(what string) { *s.log = append(*s.log, s.name+" "+what) }

func (s *step) probe() error                 { s.note("probe"); return s.probeErr }
func (s *step) size(*os.File) (int64, error) { return s.kernelSize, s.sizeErr }
func (s *step) load(kernel, initrd *os.File, cmdline string) error {
	s.note("load")
	s.cmdline = cmdline
	data, err := io.ReadAll(io.NewSectionReader(initrd, 0, 4))
	if err == nil {
		_, err = kernel.ReadAt(make([]byte, 1), 0)
	}
	s.initrd = data
	if err == nil {
		err = s.loadErr
	}
	return err
}
func (s *step) unload() error { s.note("unload"); return s.dropErr }
func (s *step) jump() error   { s.note("jump"); return s.jumpErr }

// The steps are a restart's as well.
func (s *step) Probe() error     { return s.probe() }
func (s *step) Room(int64) error { s.note("room"); return s.dropErr }
func (s *step) Prepare(kernel, initrd *os.File, line string) error {
	return s.load(kernel, initrd, line)
}
func (s *step) Restart() error { return s.jump() }
func (s *step) Cancel() error  { s.note("unload"); return nil }

// testLadder has all three rungs, in the order in which they are tried.
func testLadder(log *[]string) (l Ladder, load, file, restart *step) {
	load, file, restart = &step{name: "first", log: log}, &step{name: "second", log: log}, &step{name: "restart", log: log}
	l = Plan(Auto, Machine{Arch: "x86_64", Cmdline: "console=ttyS0 quiet"}, restart)
	l.ways = map[Rung]way{RungLoad: load, RungFile: file, RungRestart: restartWay{restart}}
	return l, load, file, restart
}

// TestForbiddenAtLast asks a kernel that allows kexec, and refuses this new kernel.
func TestForbiddenAtLast(t *testing.T) {
	for errno, code := range map[unix.Errno]string{unix.EPERM: codeUnverified, unix.ENODATA: "KEXEC-013"} {
		w := fileWay{func(int, int, string, int) error { return errno }}
		var said *Error
		if err := w.load(os.Stdin, os.Stdin, ""); !errors.As(err, &said) || said.Code() != code || said.Hint() != hintSecure || !errors.Is(err, errno) {
			t.Errorf("%v: %v", errno, err)
		}
	}
}

func TestLadderTakesTheFirstThatWorks(t *testing.T) {
	var log, told []string
	l, first, second, restart := testLadder(&log)
	l.Tell = func(line string) { told = append(told, line) }
	first.loadErr = explain(stepLoad, unix.ENOEXEC)
	loaded, err := l.Load(testSet(t))
	if err != nil || loaded.Rung() != RungFile {
		t.Fatalf("Load = %v, on %q", err, loaded.Rung())
	}
	if want := "quiet console=ttyS0"; second.cmdline != want || string(second.initrd) != "init" {
		t.Errorf("loaded with %q and initrd %q, want %q", second.cmdline, second.initrd, want)
	}
	if len(told) != 1 || !strings.Contains(told[0], "kexec_load does not work here") || !strings.Contains(told[0], "trying kexec_file_load") {
		t.Errorf("told %q", told)
	}
	if err := loaded.Unload(); err != nil {
		t.Error(err)
	}
	if want := []string{"first probe", "first load", "second probe", "second load", "second unload"}; !slices.Equal(log, want) {
		t.Errorf("asked %v, want %v", log, want)
	}
	if restart.cmdline != "" {
		t.Error("the medium was written")
	}
}

// TestSignatureRefusedOnce: what the kernel refuses for its signature Secure Boot
// would refuse after a restart. Without Secure Boot a restart may help.
func TestSignatureRefusedOnce(t *testing.T) {
	for _, errno := range []unix.Errno{unix.ENODATA, unix.ENOKEY, unix.EKEYREJECTED, unix.EBADMSG, unix.ELIBBAD, unix.EKEYEXPIRED, unix.EPERM} {
		var log []string
		l, first, second, _ := testLadder(&log)
		l.Machine.SecureBoot = true
		first.probeErr, second.loadErr = errNoWrite, loadFault(errno)
		var all *LadderError
		if _, err := l.Load(testSet(t)); !errors.As(err, &all) || !strings.Contains(err.Error(), "Secure Boot would refuse") || slices.Contains(log, "restart load") {
			t.Errorf("%v: %v, asked %v", errno, err, log)
		}
		l.Machine.SecureBoot = false
		if loaded, err := l.Load(testSet(t)); err != nil || loaded.Rung() != RungRestart {
			t.Errorf("%v without Secure Boot: %v", errno, err)
		}
	}
}

// A jump that comes back leads to the next rung, which finds its files open.
func TestJumpThatReturns(t *testing.T) {
	var log []string
	l, first, second, restart := testLadder(&log)
	first.jumpErr, second.jumpErr, restart.jumpErr = returned(unix.EBUSY), returned(nil), errors.New("the firmware refused")
	set := testSet(t)
	loaded, err := l.Load(set)
	if err != nil {
		t.Fatal(err)
	}
	err = loaded.Execute()
	var all *LadderError
	if !errors.As(err, &all) || len(all.Reasons) != 3 || all.Code() != "KEXEC-050" || all.Hint() == "" {
		t.Fatalf("Execute = %v", err)
	}
	for _, want := range []string{"kexec_file_load: ", "busy with another kexec", "kexec_load: ", "did not let go", "restart: the firmware refused"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
	want := []string{
		"first probe", "first load", "first jump", "first unload", "second probe", "second load", "second jump", "second unload",
		"restart probe", "restart load", "restart jump", "restart unload",
	}
	if !slices.Equal(log, want) {
		t.Errorf("asked %v, want %v", log, want)
	}
	if set.Kernel.File().Fd() != ^uintptr(0) {
		t.Error("the kernel's file was not closed")
	}
	if err := loaded.Unload(); err != nil || len(log) != len(want) {
		t.Errorf("Unload after all = %v, asked %v", err, log[len(want):])
	}
}

// A rung that the kernel was built without is passed over without a warning, and
// before anybody looks whether there is the memory for it. Whatever else is wrong
// is said, and once.
func TestOnlySurprisesAreTold(t *testing.T) {
	for name, tt := range map[string]struct {
		probe, load, jump error
		told, passed      string
	}{
		"built without":     {probe: explain("ask", unix.ENOSYS), passed: "kexec_load is not there"},
		"says so late":      {load: explain(stepLoad, unix.ENOSYS), passed: "kexec_load is not there"},
		"forbidden":         {probe: explain("ask", unix.EPERM), told: "kexec_load does not work here"},
		"refuses the image": {load: explain(stepLoad, unix.ENOEXEC), told: "kexec_load does not work here"},
		"came back":         {jump: returned(unix.EBUSY), told: "kexec_load does not work here"},
	} {
		var log, told, passed []string
		l, first, second, _ := testLadder(&log)
		l.Rungs = l.Rungs[:2]
		l.Tell = func(line string) { told = append(told, line) }
		l.Pass = func(line string) { passed = append(passed, line) }
		l.Memory = func() (int64, error) { return 132 << 20, nil }
		first.probeErr, first.loadErr, first.jumpErr, second.jumpErr = tt.probe, tt.load, tt.jump, returned(nil)
		loaded, err := l.Load(testSet(t))
		if err != nil {
			t.Errorf("%s: Load = %v", name, err)
			continue
		}
		if err := loaded.Execute(); err == nil {
			t.Errorf("%s: a jump that came back was none", name)
		}
		for what, got := range map[string][]string{tt.told: told, tt.passed: passed} {
			if what == "" && len(got) > 0 || what != "" && (len(got) != 1 || !strings.HasPrefix(got[0], what)) {
				t.Errorf("%s: %q, want %q", name, got, what)
			}
		}
	}
}

// What cannot be unloaded is told once, and not as two warnings in one.
func TestUnloadThatFailsIsTold(t *testing.T) {
	var log, told []string
	l, first, second, _ := testLadder(&log)
	l.Rungs = l.Rungs[:2]
	l.Tell = func(line string) { told = append(told, line) }
	first.jumpErr, second.jumpErr, first.dropErr = returned(nil), returned(nil), errors.New("it stays")
	loaded, err := l.Load(testSet(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := loaded.Execute(); err == nil || len(told) != 2 || told[0] != "it stays" {
		t.Errorf("Execute = %v, told %q", err, told)
	}
}

func TestEveryWayOfReturning(t *testing.T) {
	texts := map[string]bool{}
	for _, err := range []error{nil, unix.EINVAL, unix.EPERM, unix.EBUSY, unix.ENOSYS, unix.ENOMEM, unix.EIO} {
		e := returned(err)
		if e.Code() != codeReturn || e.Hint() == "" || !errors.Is(e, err) && err != nil {
			t.Errorf("%v: %+v", err, e)
		}
		texts[e.Text] = true
	}
	if len(texts) != len(leaving)+1 {
		t.Errorf("%d texts for %d errnos", len(texts), len(leaving))
	}
}

func TestNothingWorks(t *testing.T) {
	var log []string
	l, first, second, restart := testLadder(&log)
	first.loadErr, second.loadErr, restart.loadErr = explain(stepLoad, unix.EPERM), explain(stepLoad, unix.ENOEXEC), errors.New("the medium is full")
	set := testSet(t)
	loaded, err := l.Load(set)
	var all *LadderError
	if loaded != nil || !errors.As(err, &all) || len(all.Reasons) != 3 || all.Hint() != first.loadErr.(*Error).Hint() {
		t.Fatalf("Load = %v, %v", loaded, err)
	}
	if !errors.Is(err, unix.EPERM) || !errors.Is(err, unix.ENOEXEC) {
		t.Error("the causes are lost")
	}
	if set.Kernel.File().Fd() != ^uintptr(0) {
		t.Error("the kernel's file was not closed")
	}
}

// Each test of memory: the set is a few dozen bytes, so the margin decides.
func TestNoRungWithoutMemory(t *testing.T) {
	var log []string
	l, _, _, _ := testLadder(&log)
	l.Memory = func() (int64, error) { return 1 << 20, nil }
	_, err := l.Load(testSet(t))
	var mem *MemoryError
	probes := []string{"first probe", "second probe", "restart probe"}
	if !errors.As(err, &mem) || !slices.Equal(log, probes) {
		t.Errorf("Load = %v, asked %v", err, log)
	}
	log = nil
	broken := errors.New("no meminfo")
	l.Memory = func() (int64, error) { return 0, broken }
	if _, err := l.Load(testSet(t)); !errors.Is(err, broken) || !slices.Equal(log, probes) {
		t.Errorf("Load = %v, asked %v", err, log)
	}
}

// A small kernel may take much: where it is packed.
func TestNoRungWithoutMemoryForTheKernel(t *testing.T) {
	for name, tt := range map[string]struct {
		free int64 // MiB
		err  error
		want Rung
	}{
		"enough":         {117, nil, RungLoad},
		"too little":     {115, nil, RungRestart},
		"not such a one": {117, errors.New("it is no kernel"), RungRestart},
	} {
		var log, told []string
		l, load, file, _ := testLadder(&log)
		file.probeErr, load.kernelSize, load.sizeErr = explain("ask", unix.ENOSYS), 100<<20, tt.err
		l.Memory = func() (int64, error) { return tt.free << 20, nil }
		l.Tell = func(line string) { told = append(told, line) }
		loaded, err := l.Load(testSet(t))
		if err != nil || loaded.Rung() != tt.want {
			t.Errorf("%s: Load = %v, told %q", name, err, told)
			continue
		}
		if tt.want == RungRestart && (len(told) != 1 || !strings.HasPrefix(told[0], "kexec_load does not work here")) {
			t.Errorf("%s: told %q", name, told)
		}
		if err := loaded.Unload(); err != nil {
			t.Error(err)
		}
	}
}

func TestLadderProbe(t *testing.T) {
	var log []string
	l, first, second, restart := testLadder(&log)
	first.probeErr = explain("ask", unix.ENOSYS)
	if err := l.Probe(); err != nil || !slices.Equal(log, []string{"first probe", "second probe"}) {
		t.Errorf("Probe = %v, asked %v", err, log)
	}
	second.probeErr, restart.probeErr = explain("ask", unix.EPERM), errors.New("no such loader")
	err := l.Probe()
	for _, want := range []string{"kexec_file_load: ", "kexec_load: ", "restart: no such loader"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Probe = %v, want %q", err, want)
		}
	}
	only := Plan("kexec_file_load", Machine{}, restart)
	only.ways = l.ways
	var e *Error
	if err := only.Probe(); !errors.As(err, &e) || e.Code() != "KEXEC-011" {
		t.Errorf("Probe of one rung = %v", err)
	}
}

func TestLadderFits(t *testing.T) {
	const mb = 1 << 20
	m := sized(14*mb, 6*mb, 30*mb) // needs 232, 182 and 132 MiB
	tests := map[string]struct {
		available int64
		change    func(first, second, restart *step)
		code      string // "": it fits
		asked     string // of the restart
	}{
		"all":               {232 * mb, nil, "", ""},
		"the second":        {182 * mb, nil, "", ""},
		"the last":          {132 * mb, nil, "", "restart room"},
		"none":              {131 * mb, nil, "KEXEC-001", ""},
		"none that works":   {232 * mb, func(a, b, r *step) { a.probeErr, b.probeErr, r.probeErr = errNoWrite, errNoWrite, errNoWrite }, "KEXEC-050", ""},
		"no room":           {232 * mb, func(a, b, r *step) { a.probeErr, b.probeErr, r.dropErr = errNoWrite, errNoWrite, errors.New("full") }, "KEXEC-050", "restart room"},
		"no room or memory": {132 * mb, func(_, _, r *step) { r.dropErr = errors.New("full") }, "KEXEC-001", "restart room"},
	}
	for name, tt := range tests {
		var log []string
		l, first, second, restart := testLadder(&log)
		if tt.change != nil {
			tt.change(first, second, restart)
		}
		l.Memory = func() (int64, error) { return tt.available, nil }
		err := l.Fits(m, false)
		var coded interface{ Code() string }
		if errors.As(err, &coded) != (tt.code != "") || err != nil && coded.Code() != tt.code {
			t.Errorf("%s: Fits = %v, want %q", name, err, tt.code)
		}
		if slices.Contains(log, "restart room") != (tt.asked != "") {
			t.Errorf("%s: asked %v", name, log)
		}
	}
}

// The real rungs, where nothing is allowed: a test is not the machine's init, or
// must not be taken for it.
func TestRealRungs(t *testing.T) {
	l := Plan(Auto, Machine{}, nil)
	if len(l.Rungs) != 2 {
		t.Fatalf("rungs = %v", l.Rungs)
	}
	if _, ok := l.way(RungFile).(fileWay); !ok {
		t.Error("kexec_file_load is another way")
	}
	if _, ok := l.way(RungLoad).(loadWay); !ok {
		t.Error("kexec_load is another way")
	}
	if err := l.way(RungRestart).probe(); !errors.Is(err, errNoWrite) {
		t.Errorf("a restart without a restarter: %v", err)
	}
	if err := l.way(RungRestart).load(nil, nil, ""); !errors.Is(err, errNoWrite) {
		t.Errorf("a restart without a restarter: %v", err)
	}
}
