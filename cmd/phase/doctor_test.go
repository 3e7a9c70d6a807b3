package main

import (
	"strings"
	"testing"

	"github.com/phasebased/phase/internal/doctor"
)

// TestLackingSaysWhatToDo: one command, its honesty, and what no command brings.
func TestLackingSaysWhatToDo(t *testing.T) {
	golang := doctor.Finding{Name: "go", Why: "compiles", Hint: "Install Go."}
	qemu := doctor.Finding{Name: "qemu", Why: "runs machines", Package: "qemu-system-x86"}
	for _, tt := range []struct {
		missing []doctor.Finding
		remedy  doctor.Remedy
		want    string
	}{
		{[]doctor.Finding{qemu}, doctor.Remedy{Command: "apt-get install qemu"}, "apt-get install qemu"},
		{[]doctor.Finding{golang, qemu}, doctor.Remedy{Command: "dnf install qemu", Untested: true, Rest: []string{"go"}},
			"dnf install qemu (untested: this project tries Debian's packages only) Install Go."},
		{[]doctor.Finding{golang}, doctor.Remedy{Rest: []string{"go"}}, "Install Go."},
		{[]doctor.Finding{qemu}, doctor.Remedy{Rest: []string{"qemu"}}, "Install these with your system's package manager: qemu."},
	} {
		err := &lackingError{tt.missing, tt.remedy}
		if got := err.Hint(); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
		for _, f := range tt.missing {
			if !strings.Contains(err.Error(), f.Name+" ("+f.Why+")") {
				t.Errorf("%v does not name %s", err, f.Name)
			}
		}
	}
}
