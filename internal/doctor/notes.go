package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/phasebased/phase/internal/vm"
)

// notes is the table of what no task needs, but what makes some faster or tells
// what they will leave out.
func notes(arch string) []need {
	return []need{
		{"KVM", []Task{Demo, VM, Test}, "runs virtual machines at full speed instead of emulating them", "", "Without KVM everything works, several times slower.", kvm(arch)},
		{"window", []Task{VM}, "shows a machine's screen with --display", "", "The serial port is on the terminal in any case, and --display vnc needs no window. On Debian, qemu-system-gui brings one.", window(arch)},
		{"rights on disks", []Task{Write}, "lets a medium be written to a stick", "", "Run phase image write with sudo.", root},
		{"root", []Task{Test}, "is for tests with networks, mounts and limits of their own", "", "The tests that need root are skipped.", root},
		{"loop devices", []Task{Test}, "are disks for the tests of the writer", "", "The tests that need loop devices are skipped.", loopDevices},
	}
}

// Notes looks for what a task can use but does not need: a finding that is not ok
// is no fault. The look at KVM takes up to three seconds.
func (h Host) Notes(ctx context.Context, task Task, arch string) ([]Finding, error) {
	if !slices.Contains(Tasks(), task) || machineNeeds(arch) == nil {
		return nil, fmt.Errorf("unknown task %q or architecture %q", task, arch)
	}
	found, err := h.look(ctx, task, notes(arch))
	for i := range found {
		found[i].Optional = true
		if found[i].OK {
			found[i].Hint = ""
		}
	}
	return found, err
}

// kvm starts a guest of a few instructions: that a device is there says little.
func kvm(arch string) checker {
	return func(ctx context.Context, h Host) (string, error) {
		own := map[string]string{"amd64": vm.X8664, "arm64": vm.ARM64}[runtime.GOARCH]
		if arch != own {
			return "", fmt.Errorf("the machines are %s and this computer is not", arch)
		}
		qemu, err := h.qemu(arch)
		if err != nil {
			return "", fmt.Errorf("not tried: %w", err)
		}
		probe := vm.ProbeKVM(ctx, qemu)
		if !probe.KVM {
			if probe.Detail != "" {
				return "", fmt.Errorf("%s: %.200s", probe.Reason, probe.Detail)
			}
			return "", errors.New(probe.Reason)
		}
		return probe.Reason, nil
	}
}

func (h Host) qemu(arch string) (string, error) {
	if arch == vm.ARM64 {
		arch = "aarch64"
	}
	return h.LookPath("qemu-system-" + arch)
}

func window(arch string) checker {
	return func(ctx context.Context, h Host) (string, error) {
		qemu, err := h.qemu(arch)
		if err != nil {
			return "", fmt.Errorf("not tried: %w", err)
		}
		kinds, err := vm.Displays(ctx, qemu)
		if err == nil && len(kinds) == 0 {
			err = errors.New("this QEMU can open none")
		}
		return strings.Join(kinds, ", "), err
	}
}

func root(_ context.Context, h Host) (string, error) {
	if h.UID != 0 {
		return "", errors.New("you are not root")
	}
	return "you are root", nil
}

func loopDevices(_ context.Context, h Host) (string, error) {
	path := filepath.Join(h.root(), "dev", "loop-control")
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	return path, f.Close()
}
