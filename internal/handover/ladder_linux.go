package handover

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/phasebased/phase/internal/failure"
	"github.com/phasebased/phase/internal/kexec"
	"github.com/phasebased/phase/manifest"
)

const stepLoad = "load the new kernel"

// Probe finds out early, and without any file, whether some rung can work. What
// it returns is what Load would end with.
func (l Ladder) Probe() error {
	var reasons []Reason
	for _, rung := range l.Rungs {
		err := l.way(rung).probe()
		if err == nil {
			return nil
		}
		reasons = append(reasons, Reason{rung, err})
	}
	return l.refusal(reasons)
}

// Fits finds out before anything is downloaded whether a rung that can work has
// what m takes of memory, or of the medium. If memory is the only thing that is
// missing somewhere, the error is the *MemoryError of the most modest rung.
func (l Ladder) Fits(m manifest.Manifest, rootfsInCache bool) error {
	available, err := l.available()
	if err != nil {
		return err
	}
	var reasons []Reason
	for _, rung := range l.Rungs {
		err := l.way(rung).probe()
		if err == nil {
			err = CheckMemory(m, rung, rootfsInCache, available)
		}
		if err == nil && rung == RungRestart {
			err = l.Restart.Room(setSize(m, rootfsInCache))
		}
		if err == nil {
			return nil
		}
		reasons = append(reasons, Reason{rung, err})
	}
	if least := leastMemory(reasons); least != nil {
		return least
	}
	return l.refusal(reasons)
}

// leastMemory is the memory error that is nearest to none.
func leastMemory(reasons []Reason) (least error) {
	need := int64(0)
	for _, r := range reasons {
		var m *MemoryError
		if errors.As(r.Err, &m) && (least == nil || m.Need < need) {
			least, need = m, m.Need
		}
	}
	return least
}

func (l Ladder) available() (int64, error) {
	if l.Memory == nil {
		return 1 << 62, nil
	}
	return l.Memory()
}

// refusal is the error of a ladder with no rung left. Where there was only one, it
// speaks for itself.
func (l Ladder) refusal(reasons []Reason) error {
	all := slices.Concat(reasons, l.Ruled)
	if len(all) == 1 {
		return all[0].Err
	}
	return &LadderError{all}
}

func (l Ladder) tell(format string, args ...any) {
	if l.Tell != nil {
		l.Tell(fmt.Sprintf(format, args...))
	}
}

func (l Ladder) pass(format string, args ...any) {
	if l.Pass != nil {
		l.Pass(fmt.Sprintf(format, args...))
	}
}

// Loaded is a kernel that waits for Execute or Unload. It is for one goroutine.
type Loaded struct {
	ladder Ladder
	kernel *os.File // nil when no rung is left that would need it
	initrd *os.File
	signed string // the command line, as it was signed
	set    manifest.Manifest
	cached bool // the root file system stays in the cache
	left   []Rung
	rung   Rung // "": nothing is loaded
	failed []Reason
}

// Load checks the set against its manifest, puts the initrd together, and loads
// both on the first rung that takes them, with the manifest's command line. It
// takes the files over: they are closed when no rung needs them any more, on
// failure at once. What it needs is root and the memory that Need tells. A wrong
// set is an *Error; if no rung takes it the error is that of the only rung, or a
// *LadderError.
func (l Ladder) Load(set Set) (*Loaded, error) {
	loaded, err := l.prepare(set)
	if err == nil {
		err = loaded.next()
	}
	if err != nil {
		set.closeAll()
		return nil, err
	}
	return loaded, nil
}

// prepare makes what every rung needs.
func (l Ladder) prepare(set Set) (*Loaded, error) {
	info, err := set.check()
	if err != nil {
		return nil, err
	}
	initrd, err := set.initrd(info)
	if err != nil {
		return nil, &Error{Step: "put the initramfs together", Err: err,
			Text: "it could not be written to memory", Kind: failure.Kind{Code: codeBuild, Hint: hintMemory}}
	}
	m := set.Verified.Manifest()
	return &Loaded{
		ladder: l, kernel: set.Kernel.File(), initrd: initrd, signed: m.Cmdline, set: m,
		cached: m.Rootfs != nil && set.Rootfs == nil, left: slices.Clone(l.Rungs),
	}, nil
}

// Rung is the one on which the kernel is loaded.
func (l *Loaded) Rung() Rung { return l.rung }

// next loads on the first of the rungs that are left, or says of all why not.
func (l *Loaded) next() error {
	for len(l.left) > 0 {
		rung := l.left[0]
		l.left = l.left[1:]
		err := l.try(rung)
		if err == nil {
			l.rung = rung
			if len(l.left) == 0 {
				l.closeFiles()
			}
			return nil
		}
		l.fail(rung, err)
	}
	l.closeFiles()
	return l.ladder.refusal(l.failed)
}

func (l *Loaded) fail(rung Rung, err error) {
	l.failed = append(l.failed, Reason{rung, err})
	switch {
	case len(l.left) == 0: // the last one's error is told by whoever gets it
	case unavailable(rung, err):
		l.ladder.pass("%s is not there (%v); trying %s", rung, err, l.left[0])
	default:
		l.ladder.tell("%s does not work here (%v); trying %s", rung, err, l.left[0])
	}
}

// unavailable reports whether the running kernel was built without a rung: many
// are, Debian's for arm64 among them, and it is nobody's fault.
func unavailable(rung Rung, err error) bool {
	return rung != RungRestart && errors.Is(err, unix.ENOSYS)
}

// try loads on one rung, if the machine has it. Without the memory for it the
// kernel might panic.
func (l *Loaded) try(rung Rung) error {
	if rung == RungRestart && l.ladder.Machine.SecureBoot && slices.ContainsFunc(l.failed, badSignature) {
		return errRefusedAgain
	}
	way := l.ladder.way(rung)
	if err := way.probe(); err != nil {
		return err
	}
	available, err := l.ladder.available()
	if err != nil {
		return err
	}
	size, err := way.size(l.kernel)
	if err != nil {
		return err
	}
	held := setSize(l.set, l.cached)
	need := max(Need(l.set, rung, l.cached), held+l.initrdSize()+size+margin)
	// Half of the margin is for what has changed since the first look.
	if available += held + margin/2; available < need {
		return &MemoryError{Set: held, Need: need, Available: available}
	}
	return way.load(l.kernel, l.initrd, commandLine(l.signed, l.ladder.Machine, rung))
}

// badSignature reports whether the running kernel refuses the new one for its
// signature. The keys that it knows are those of the firmware and of shim.
func badSignature(r Reason) bool {
	var said *Error
	if errors.As(r.Err, &said) && said.Code() == codeUnverified {
		return true
	}
	return slices.ContainsFunc([]error{unix.ENODATA, unix.ENOKEY, unix.EKEYREJECTED, unix.EBADMSG, unix.ELIBBAD, unix.EKEYEXPIRED}, func(errno error) bool {
		return errors.Is(r.Err, errno)
	})
}

// initrdSize is what the next kernel's initrd takes once more, in bytes.
func (l *Loaded) initrdSize() int64 {
	info, err := l.initrd.Stat()
	if err != nil {
		return 0 // loading it will say so
	}
	return info.Size()
}

// closeFiles gives the memory of the files back.
func (l *Loaded) closeFiles() {
	for _, f := range []**os.File{&l.kernel, &l.initrd} {
		if *f != nil {
			(*f).Close()
			*f = nil
		}
	}
}

// Unload gives the memory of the loaded kernel and of the files back, when the
// machine will not jump after all. Afterwards Execute fails; Unload may be called
// again.
func (l *Loaded) Unload() error {
	l.left = nil
	l.closeFiles()
	return l.drop()
}

func (l *Loaded) drop() error {
	if l.rung == "" {
		return nil
	}
	err := l.ladder.way(l.rung).unload()
	if err == nil {
		l.rung = ""
	}
	return err
}

// Execute writes the disks (for a bounded time), stops the watchdogs and starts
// the new kernel. When the jump comes back, the next rung is loaded and tried. It
// returns only when none is left, with what Load would return then. The caller
// has brought the network down cleanly.
func (l *Loaded) Execute() error {
	syncDisks(syncLimit)
	_ = disarmWatchdogs() // a watchdog that goes on is the new system's to stop
	if l.rung == "" {
		return returned(unix.EINVAL)
	}
	for {
		rung := l.rung
		err := l.ladder.way(rung).jump()
		if fault := l.drop(); fault != nil {
			l.ladder.tell("%v", fault)
		}
		l.rung = ""
		l.fail(rung, err)
		if err := l.next(); err != nil {
			return err
		}
	}
}

// way is the rung at work.
func (l Ladder) way(rung Rung) way {
	if l.ways != nil {
		return l.ways[rung]
	}
	switch {
	case rung == RungFile:
		return fileWay{unix.KexecFileLoad}
	case rung == RungLoad:
		return loadWay{}
	case rung == RungRestart && l.Restart != nil:
		return restartWay{l.Restart}
	}
	return noWay{}
}

// kexecFileLoad is unix.KexecFileLoad, kexec_file_load(2).
type kexecFileLoad func(kernel, initrd int, cmdline string, flags int) error

type fileWay struct{ call kexecFileLoad }

func (fileWay) size(*os.File) (int64, error) { return 0, nil }

func (w fileWay) probe() error {
	// Bad descriptors are looked at only after the permission.
	err := w.call(-1, -1, "", 0)
	if err == nil || errors.Is(err, unix.EBADF) {
		return nil
	}
	return explain("ask whether kexec works", err)
}

func (w fileWay) load(kernel, initrd *os.File, cmdline string) error {
	if err := w.call(int(kernel.Fd()), int(initrd.Fd()), cmdline, 0); err != nil {
		return loadFault(err)
	}
	return nil
}

func (w fileWay) unload() error {
	if err := w.call(-1, -1, "", unix.KEXEC_FILE_UNLOAD); err != nil {
		return explain("unload the new kernel", err)
	}
	return nil
}

func (fileWay) jump() error { return jump() }

type loadWay struct{}

func (loadWay) probe() error                        { return kexec.Probe() }
func (loadWay) size(kernel *os.File) (int64, error) { return kexec.Size(kernel) }
func (loadWay) load(kernel, initrd *os.File, cmdline string) error {
	return kexec.Load(kernel, initrd, cmdline)
}
func (loadWay) unload() error { return kexec.Unload() }
func (loadWay) jump() error   { return jump() }

type restartWay struct{ Restarter }

func (w restartWay) probe() error               { return w.Probe() }
func (restartWay) size(*os.File) (int64, error) { return 0, nil }
func (w restartWay) load(kernel, initrd *os.File, cmdline string) error {
	return w.Prepare(kernel, initrd, cmdline)
}
func (w restartWay) unload() error { return w.Cancel() }
func (w restartWay) jump() error   { return w.Restart() }

// noWay is a rung of a ladder that Plan has not made.
type noWay struct{}

func (noWay) probe() error                       { return errNoWrite }
func (noWay) size(*os.File) (int64, error)       { return 0, errNoWrite }
func (noWay) load(_, _ *os.File, _ string) error { return errNoWrite }
func (noWay) unload() error                      { return nil }
func (noWay) jump() error                        { return errNoWrite }

// jump asks for the change of kernels; an error or not, whoever hears the answer
// is still in the old one.
func jump() error { return returned(unix.Reboot(unix.LINUX_REBOOT_CMD_KEXEC)) }
