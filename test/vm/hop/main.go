// Command hop is the init of the machines in which package internal/kexec is
// tested. It says what it finds, starts the kernel that lies in /next with that
// package, and in that kernel says the same again.
package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/phasebased/phase/internal/kexec"
)

func main() {
	if err := hop(); err != nil {
		fmt.Printf("HOP FAILED %v\n", err)
		var coded interface{ Code() string }
		if errors.As(err, &coded) {
			fmt.Printf("HOP CODE %s\n", coded.Code())
		}
	}
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	select {}
}

func hop() error {
	for dir, kind := range map[string]string{"/proc": "proc", "/sys": "sysfs"} {
		if err := errors.Join(os.MkdirAll(dir, 0o755), unix.Mount(kind, dir, kind, 0, "")); err != nil {
			return err
		}
	}
	cmdline, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	fmt.Printf("\nHOP STATE %s\n", state())
	fmt.Printf("HOP CMDLINE %s\n", strings.TrimSpace(string(cmdline)))
	next, err := os.ReadFile("/next/cmdline")
	if errors.Is(err, os.ErrNotExist) {
		fmt.Println("HOP ARRIVED")
		return nil
	}
	if err != nil {
		return err
	}
	return leave(string(next))
}

// leave loads twice, since what is loaded must be replaceable, and jumps.
func leave(cmdline string) error {
	if err := kexec.Probe(); err != nil {
		return err
	}
	kernel, err := os.Open("/next/kernel")
	if err != nil {
		return err
	}
	initrd, err := os.Open("/next/initrd")
	if err != nil {
		return err
	}
	if err := kexec.Load(kernel, nil, cmdline); err != nil {
		return err
	}
	if err := kexec.Unload(); err != nil {
		return err
	}
	if err := kexec.Load(kernel, initrd, cmdline); err != nil {
		return err
	}
	fmt.Println("HOP LEAVES")
	return unix.Reboot(unix.LINUX_REBOOT_CMD_KEXEC)
}

// state is what must be the same in both kernels: memory, processors, and what
// firmware offers.
func state() string {
	out := fmt.Sprintf("memory=%d cpus=%d ram=%d", memory(), runtime.NumCPU(), ram())
	if _, err := os.Stat("/sys/firmware/acpi/tables"); err == nil {
		out += " acpi"
	}
	if _, err := os.Stat("/sys/firmware/devicetree/base/cpus"); err == nil {
		out += " tree"
	}
	return fmt.Sprintf("%s variables=%d", out, variables())
}

// variables counts what the firmware answers when it is asked at run time.
func variables() int {
	const dir = "/sys/firmware/efi/efivars"
	if module, err := os.Open("/efivarfs.ko"); err == nil {
		_ = unix.FinitModule(int(module.Fd()), "", 0) // no UEFI: no such device
	}
	if err := unix.Mount("efivarfs", dir, "efivarfs", unix.MS_RDONLY, ""); err != nil {
		return 0
	}
	names, err := os.ReadDir(dir)
	if err != nil {
		return 0
	}
	readable := 0
	for _, name := range names {
		if _, err := os.ReadFile(dir + "/" + name.Name()); err == nil {
			readable++
		}
	}
	return readable
}

// memory is MemTotal, in KiB.
func memory() (total int) {
	text, err := os.ReadFile("/proc/meminfo")
	if err == nil {
		_, _ = fmt.Sscanf(string(text), "MemTotal: %d kB", &total)
	}
	return total
}

// ram is all memory that the kernel was told of.
func ram() (total uint64) {
	text, err := os.ReadFile("/proc/iomem")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		var start, end uint64
		if n, _ := fmt.Sscanf(line, "%x-%x : System RAM", &start, &end); n == 2 && strings.HasSuffix(strings.TrimSpace(line), ": System RAM") {
			total += end - start + 1
		}
	}
	return total
}
