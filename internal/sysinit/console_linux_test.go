package sysinit

import (
	"errors"
	"io/fs"
	"testing"
	"testing/fstest"
)

func TestReportDevice(t *testing.T) {
	const ports = "class/virtio-ports/"
	sys := fstest.MapFS{
		ports + "vport1p1/name":          {Data: []byte("org.qemu.guest_agent.0\n")},
		ports + "a $(strange) port/name": {Data: []byte("org.phase.report\n")},
		ports + "vport1p2/name":          {Data: []byte("org.phase.report\n")},
		ports + "vport1p3/dev":           {},
	}
	if got, err := ReportDevice(sys, "org.phase.report"); got != "/dev/vport1p2" || err != nil {
		t.Errorf("the report port is %q, %v", got, err)
	}
	if got, err := ReportDevice(sys, "org.example"); got != "" || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a port that is not there is %q, %v", got, err)
	}
	if got, err := ReportDevice(fstest.MapFS{}, "org.example"); got != "" || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("on a machine without ports: %q, %v", got, err)
	}
}
