package debpkg

import (
	"os"
	"testing"
)

// TestRealKernel asks the real apt; it needs the network, so it runs on request.
func TestRealKernel(t *testing.T) {
	dir := os.Getenv("PHASE_TEST_PACKAGES")
	if dir == "" {
		t.Skip("set PHASE_TEST_PACKAGES to a cache folder to download real packages")
	}
	c := &Cache{Dir: dir}
	name, err := KernelPackage("amd64")
	if err != nil {
		t.Fatal(err)
	}
	pkgs, err := c.GetKernel(t.Context(), name, "amd64")
	if err != nil || len(pkgs) == 0 {
		t.Fatalf("%v, %v", pkgs, err)
	}
	for _, name := range []string{"systemd-boot-efi", "ca-certificates"} {
		p, err := c.Get(t.Context(), name, "amd64")
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%+v", p)
	}
	t.Logf("%+v", pkgs)
}
