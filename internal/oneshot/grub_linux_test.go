package oneshot

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/phasebased/phase/internal/guid"
)

// grubMachine is a machine whose medium was started by GRUB, which sets none of
// systemd-boot's variables.
func grubMachine(t *testing.T) *machine {
	t.Helper()
	m := newMachine(t)
	m.Told = Told{Partition: testUUID}
	for _, name := range []string{varFeatures, varDevice} {
		if err := os.Remove(filepath.Join(m.Vars, name)); err != nil {
			t.Fatal(err)
		}
	}
	block, err := marshalEnvironment([]setting{{"theme", "none"}})
	if err != nil {
		t.Fatal(err)
	}
	m.file("esp/"+grubEnvironment, block)
	return m
}

// environment is what GRUB would find.
func (m *machine) environment() []setting {
	m.Helper()
	block, err := os.ReadFile(filepath.Join(m.Dir, grubEnvironment))
	if err != nil {
		m.Fatal(err)
	}
	list, err := parseEnvironment(block)
	if err != nil {
		m.Fatal(err)
	}
	return list
}

func (m *machine) bareGRUB() {
	m.Helper()
	if got := m.tree(); !slices.Equal(got, []string{grubEnvironment, "loader/entries/internet.conf"}) {
		m.Errorf("the boot partition holds %v", got)
	}
	if valueOf(m.environment(), nextEntry) != "" || valueOf(m.environment(), "theme") != "none" || m.mounted {
		m.Errorf("GRUB finds %v; mounted: %v", m.environment(), m.mounted)
	}
}

func TestPrepareAndRestartByGRUB(t *testing.T) {
	m := grubMachine(t)
	if err := m.Probe(); err != nil || len(m.mounts) != 0 || m.Stale() || m.Ours() {
		t.Fatalf("Probe = %v, mounts %v", err, m.mounts)
	}
	if err := m.Prepare(m.kernel, m.initrd, "quiet a=$b;{c} console=ttyS0"); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(m.Dir, grubEntry))
	want := "linux /phase/oneshot/kernel 'quiet' 'a=$b;{c}' 'console=ttyS0' loader.partition=$partition loader.oneshot=started\n" +
		"if initrd /phase/oneshot/initrd; then\n  boot\nfi\n"
	if err != nil || string(text) != want {
		t.Errorf("the entry is %q, %v", text, err)
	}
	if valueOf(m.environment(), nextEntry) != "" {
		t.Error("GRUB is told before Restart")
	}
	m.Medium.Reboot = func() error { // what firmware and GRUB find
		next, err := (variables{m.Vars}).read(varNext, 2)
		if err != nil || next[0] != 2 || m.mounted {
			t.Errorf("BootNext %v %v, mounted %v", next, err, m.mounted)
		}
		if got := m.environment(); !slices.Equal(got, []setting{{nextEntry, grubID}, {"theme", "none"}}) {
			t.Errorf("GRUB finds %v", got)
		}
		return m.rebootErr
	}
	fails(t, m.Restart(), kindReboot, "a test does not restart")
	if exists(filepath.Join(m.Vars, varNext)) || valueOf(m.environment(), nextEntry) != "" {
		t.Error("it is not forgotten")
	}
	if err := m.Cancel(); err != nil {
		t.Fatal(err)
	}
	m.bareGRUB()
}

// The systems that find what a restart has left remove it; what GRUB did not start
// it is not asked for again.
func TestClearByGRUB(t *testing.T) {
	for state, test := range map[string]struct {
		armed, ours, ignored bool
	}{
		stateLeft:    {},
		stateStarted: {ours: true},
		stateFailed:  {ignored: true},
		"armed":      {armed: true, ignored: true}, // GRUB could not write
	} {
		t.Run(state, func(t *testing.T) {
			m := grubMachine(t)
			m.T = t
			if err := m.Prepare(m.kernel, m.initrd, ""); err != nil {
				t.Fatal(err)
			}
			m.Told.OneShot = state
			if test.armed {
				m.Told.OneShot = stateLeft
				if err := (grub{m.Medium}).set(grubID); err != nil {
					t.Fatal(err)
				}
			}
			if !m.Stale() || m.Ours() != test.ours {
				t.Errorf("stale %v, ours %v", m.Stale(), m.Ours())
			}
			if err := m.Clear(); err != nil {
				t.Fatal(err)
			}
			m.bareGRUB()
			if m.Stale() {
				t.Error("it is removed again and again")
			}
			if err := m.Probe(); (err != nil) != test.ignored {
				t.Errorf("Probe = %v", err)
			}
		})
	}
}

func TestGRUBRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		cmdline, text string
	}{
		"quotes":    {`dyndbg="file x +p"`, "passes on"},
		"quote":     {"a='b'", "passes on"},
		"backslash": {`a=\b`, "passes on"},
		"two lines": {"quiet\nreboot", "passes on"},
		"umlaut":    {"a=ü", "passes on"},
		"long":      {strings.Repeat("x", 2047-aroundGRUB+1), "at most"},
	} {
		t.Run(name, func(t *testing.T) {
			m := grubMachine(t)
			m.T = t
			fails(t, m.Prepare(m.kernel, m.initrd, tt.cmdline), kindKernel, tt.text)
			m.bareGRUB()
		})
	}
	m := grubMachine(t)
	if err := m.Prepare(m.kernel, m.initrd, strings.Repeat("x", 2047-aroundGRUB)); err != nil {
		t.Error(err)
	}
	m = grubMachine(t)
	m.Told.Partition = strings.Replace(testUUID, "ab", "ac", 1)
	fails(t, m.Probe(), kindMedium, "another disk")
}

// What GRUB's memory does not take is found out before the machine restarts.
func TestGRUBForgets(t *testing.T) {
	for name, tt := range map[string]struct {
		kind   kind
		break_ func(m *machine)
	}{
		"none":      {kindWrite, func(m *machine) { os.Remove(filepath.Join(m.Dir, grubEnvironment)) }},
		"malformed": {kindWrite, func(m *machine) { m.file("esp/"+grubEnvironment, make([]byte, environmentSize)) }},
		"short":     {kindWrite, func(m *machine) { m.file("esp/"+grubEnvironment, []byte(environmentHead)) }},
		"full": {kindWrite, func(m *machine) {
			block, _ := marshalEnvironment([]setting{{"x", strings.Repeat("x", environmentSize-len(environmentHead)-3)}})
			m.file("esp/"+grubEnvironment, block)
		}},
		"rot": {kindWrite, func(m *machine) {
			m.unmounting = func(bool) error {
				m.unmounting = nil
				m.file("esp/"+grubEnvironment, make([]byte, environmentSize))
				return nil
			}
		}},
		"no next": {kindFirmware, func(m *machine) { m.file("vars/"+varNext+"/x", nil) }},
	} {
		t.Run(name, func(t *testing.T) {
			m := grubMachine(t)
			m.T = t
			if err := m.Prepare(m.kernel, m.initrd, ""); err != nil {
				t.Fatal(err)
			}
			tt.break_(m)
			fails(t, m.Restart(), tt.kind, "take it")
			if m.reboots != 0 || (grub{m.Medium}).armed() {
				t.Errorf("%d restarts, armed %v", m.reboots, (grub{m.Medium}).armed())
			}
		})
	}
}

func TestParseTold(t *testing.T) {
	for cmdline, want := range map[string]Told{
		"":                                   {},
		"quiet":                              {},
		"quiet loader.partition=" + testUUID: {Partition: testUUID},
		"loader.partition=" + testUUID + " loader.oneshot=left loader.oneshot=failed\n": {testUUID, stateFailed},
		"loader.partition=" + testUUID + " loader.oneshot=started":                      {testUUID, stateStarted},
		"loader.partition=" + testUUID + " loader.oneshot=rm":                           {Partition: testUUID},
		"loader.partition=sda1 loader.oneshot=left":                                     {},
		"loader.oneshot=left": {},
		"loader.partition=" + testUUID + strings.Repeat(" x", maxCmdline): {},
	} {
		if got := ParseTold(cmdline); got != want {
			t.Errorf("%.80q: %+v, want %+v", cmdline, got, want)
		}
	}
}

func TestEnvironment(t *testing.T) {
	list := []setting{{"next_entry", "phase-oneshot"}, {"a", `x\y = #z`}, {"empty", ""}}
	block, err := marshalEnvironment(list)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := parseEnvironment(block); err != nil || !slices.Equal(got, list) {
		t.Errorf("%v, %v", got, err)
	}
	// As grub-editenv makes them.
	warned := []byte(environmentHead + "# WARNING: Do not edit this file by tools other than grub-editenv!!!\nnext_entry=\n" + strings.Repeat("#", environmentSize))
	if got, err := parseEnvironment(warned[:environmentSize]); err != nil || !slices.Equal(got, []setting{{"next_entry", ""}}) {
		t.Errorf("%v, %v", got, err)
	}
	fill := func(text string) []byte {
		return []byte((environmentHead + text + strings.Repeat("#", environmentSize))[:environmentSize])
	}
	for name, block := range map[string][]byte{
		"empty":      nil,
		"short":      fill("")[:1023],
		"long":       append(fill(""), '#'),
		"no head":    []byte(strings.Repeat("#", environmentSize)),
		"no name":    fill("=x\n"),
		"odd name":   fill("a b=x\n"),
		"no value":   fill("a\n"),
		"twice":      fill("a=x\na=y\n"),
		"cut off":    fill("a=x\nb="),
		"NUL":        fill("a=\x00\n"),
		"not ASCII":  fill("a=ü\n"),
		"half of it": fill("a=\\\n"),
	} {
		if got, err := parseEnvironment(block); !errors.Is(err, ErrEnvironment) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	if _, err := marshalEnvironment([]setting{{"a", "b\nc=d"}}); err == nil {
		t.Error("a value of two lines was written")
	}
}

// What is read is what is written again.
func FuzzEnvironment(f *testing.F) {
	block, _ := marshalEnvironment([]setting{{"next_entry", "phase-oneshot"}, {"a", `b\c`}})
	f.Add(block)
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := parseEnvironment(data)
		if err != nil {
			if !errors.Is(err, ErrEnvironment) || len(list) > 0 {
				t.Errorf("%v, %v", list, err)
			}
			return
		}
		again, err := marshalEnvironment(list)
		if err != nil {
			return // what had fewer backslashes than are needed
		}
		if read, err := parseEnvironment(again); err != nil || !slices.Equal(read, list) {
			t.Errorf("%v becomes %v, %v", list, read, err)
		}
	})
}

func FuzzTold(f *testing.F) {
	f.Add("quiet loader.partition=" + testUUID + " loader.oneshot=left")
	f.Fuzz(func(t *testing.T, cmdline string) {
		told := ParseTold(cmdline)
		if _, err := guid.Parse(told.Partition); told != (Told{}) && err != nil {
			t.Errorf("%q: %+v", cmdline, told)
		}
	})
}
