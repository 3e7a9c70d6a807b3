package doctor

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

// Scripts that write what they were asked for to $log.
const (
	note      = `echo "$(basename $0) $*" >> $LOG; `
	aptScript = note + `echo "apt says $DEBIAN_FRONTEND"`
	sudoWorks = note + `shift; exec "$@"`
	sudoAsks  = note + `echo "a password is required" >&2; exit 1`
)

// aptHost is a machine with apt that lacks QEMU, its firmware and mtools.
func aptHost(t *testing.T, apt, sudo string, fresh bool) *fakeHost {
	h := newHost(t)
	set := "LOG=" + h.Root + "/log; "
	h.program("apt-get", set+apt)
	if sudo != "" {
		h.program("sudo", set+sudo)
		h.UID = 1000
	}
	h.Path += ":/usr/bin:/bin" // for the scripts
	if fresh {
		h.write("var/lib/apt/lists/deb_Packages", "", 0o644)
	}
	return h
}

var lacking = []Finding{
	{Name: "git", OK: true, Package: "git"},
	{Name: "qemu-system-x86_64", Package: "qemu-system-x86"},
	{Name: "UEFI firmware", Package: "ovmf"},
	{Name: "mdir", Package: "mtools"},
	{Name: "mcopy", Package: "mtools"},
}

const (
	quiet   = "apt-get -q -o DPkg::Lock::Timeout=120 "
	install = quiet + "install -y --no-install-recommends mtools ovmf qemu-system-x86\n"
	up      = quiet + "update\n"
	sudo    = "sudo -n true\nsudo -n env DEBIAN_FRONTEND=noninteractive "
	person  = "apt-get install -y --no-install-recommends mtools ovmf qemu-system-x86"
)

func TestInstall(t *testing.T) {
	stale := note + `case "$*" in *install*) [ -e ${LOG}.up ] || exit 100;; *update*) : > ${LOG}.up;; esac`
	tests := []struct {
		name      string
		apt, sudo string
		fresh     bool
		want      string // commands that ran
		command   string // the one for a person
		err       string
	}{
		{"root, lists fresh", aptScript, "", true, install, person, ""},
		{"root, no lists", aptScript, "", false, up + install, "apt-get update && " + person, ""},
		{"user", aptScript, sudoWorks, true, sudo + install + install, "sudo " + person, ""},
		{"lists behind the mirror", stale, "", true, install + up + install, person, ""},
		{"sudo asks", aptScript, sudoAsks, true, "sudo -n true\n", "sudo " + person, "without a password"},
		{"apt fails", note + "exit 100", "", true, install + up, person, "apt-get update: exit status 100"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := aptHost(t, tt.apt, tt.sudo, tt.fresh)
			if got := h.Command(lacking); got != tt.command {
				t.Errorf("command %q, want %q", got, tt.command)
			}
			var log strings.Builder
			err := h.Install(t.Context(), lacking, &log)
			var ie *InstallError
			switch {
			case tt.err == "" && err != nil:
				t.Error(err)
			case tt.err != "" && (!errors.As(err, &ie) || !strings.Contains(err.Error(), tt.err) || !strings.Contains(ie.Hint(), ie.Command)):
				t.Errorf("got %v, want %q", err, tt.err)
			}
			if got := h.read("log"); got != tt.want {
				t.Errorf("ran\n%s\nwant\n%s", got, tt.want)
			}
			if tt.apt == aptScript && tt.err == "" && !strings.Contains(log.String(), "apt says noninteractive\n") {
				t.Errorf("log %q", log.String())
			}
		})
	}
}

func TestInstallNothing(t *testing.T) {
	h := aptHost(t, aptScript, "", true)
	if err := h.Install(t.Context(), lacking[:1], &strings.Builder{}); err != nil {
		t.Error(err)
	}
	if got := h.read("log"); got != "" {
		t.Errorf("ran %q", got)
	}
}

func TestInstallWithoutPackage(t *testing.T) {
	h := aptHost(t, aptScript, "", true)
	golang := Finding{Name: "go", Hint: "Install Go."}
	err := h.Install(t.Context(), append([]Finding{golang}, lacking...), &strings.Builder{})
	var none *NoPackageError
	if !errors.As(err, &none) || none.Hint() != "Install Go." || !strings.Contains(err.Error(), "brings: go") {
		t.Errorf("got %v", err)
	}
	if got := h.read("log"); got != install {
		t.Errorf("ran %q: the rest must be installed all the same", got)
	}
}

func TestInstallWithoutApt(t *testing.T) {
	h := newHost(t)
	err := h.Install(t.Context(), lacking, &strings.Builder{})
	var none *NoPackageError
	if !errors.As(err, &none) || !strings.Contains(none.Hint(), "qemu-system-x86_64, UEFI firmware, mdir") {
		t.Errorf("got %v", err)
	}
	if c := h.Command(lacking); c != "" {
		t.Errorf("command %q", c)
	}
}

func TestRemedy(t *testing.T) {
	missing := append([]Finding{{Name: "go", Hint: "Install Go."}, {Name: "something", Package: "of-debian-alone"}}, lacking...)
	for _, tt := range []struct {
		programs string
		uid      int
		want     Remedy
	}{
		{"apt-get dnf", 0, Remedy{Command: "apt-get update && apt-get install -y --no-install-recommends mtools of-debian-alone ovmf qemu-system-x86", Rest: []string{"go"}}},
		{"dnf", 0, Remedy{"dnf install -y edk2-ovmf mtools qemu-system-x86", true, []string{"go", "something"}}},
		{"dnf sudo", 1000, Remedy{"sudo dnf install -y edk2-ovmf mtools qemu-system-x86", true, []string{"go", "something"}}},
		{"pacman", 1000, Remedy{"su -c 'pacman -S --needed edk2-ovmf mtools qemu-system-x86'", true, []string{"go", "something"}}},
		{"brew sudo", 501, Remedy{"brew install mtools qemu", true, []string{"go", "something"}}},
		{"", 0, Remedy{Rest: []string{"go", "something", "qemu-system-x86_64", "UEFI firmware", "mdir", "mcopy"}}},
	} {
		h := newHost(t)
		h.UID = tt.uid
		for program := range strings.FieldsSeq(tt.programs) {
			h.program(program, "")
		}
		if got := h.Remedy(missing); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: %+v, want %+v", tt.programs, got, tt.want)
		}
		if got := h.Remedy(lacking[:1]); !reflect.DeepEqual(got, Remedy{}) {
			t.Errorf("%s, nothing is missing: %+v", tt.programs, got)
		}
		if tt.programs == "apt-get dnf" {
			if got := h.Remedy(missing[:1]); !reflect.DeepEqual(got, Remedy{Rest: []string{"go"}}) {
				t.Errorf("only Go is missing: %+v", got)
			}
		}
	}
}
