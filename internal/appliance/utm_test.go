package appliance

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/internal/diskformat"
	"github.com/phasebased/phase/internal/nettest"
)

var testTime = time.Date(2026, 1, 2, 3, 4, 6, 0, time.UTC)

func testDisk() ([]byte, int64) {
	disk := make([]byte, 3<<20)
	for i := range disk[1<<20 : 1<<20+70000] {
		disk[1<<20+i] = byte(i*7 + i>>8)
	}
	return disk, int64(len(disk))
}

func bundleOf(t *testing.T, c Config) (path string, files map[string][]byte) {
	t.Helper()
	disk, size := testDisk()
	c.Out, c.Time = filepath.Join(t.TempDir(), "phase.utm.zip"), testTime
	if err := WriteUTM(context.Background(), bytes.NewReader(disk), size, c); err != nil {
		t.Fatal(err)
	}
	z, err := zip.OpenReader(c.Out)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	files = map[string][]byte{}
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if !f.Modified.Equal(testTime) {
			t.Errorf("%s is of %v", f.Name, f.Modified)
		}
		files[f.Name] = data
	}
	return c.Out, files
}

// TestUTM opens the bundle as a Mac does: the property list has what UTM requires,
// and names the disk that is there, which QEMU accepts.
func TestUTM(t *testing.T) {
	for arch, want := range map[string]string{X8664: "x86_64", ARM64: "aarch64"} {
		path, files := bundleOf(t, Config{Name: "Phase 1", Arch: arch})
		plist := parsePlist(t, files["Phase 1.utm/config.plist"])
		for key, value := range map[string]any{
			"Backend": "QEMU", "ConfigurationVersion": "4", "System/Architecture": want, "System/MemorySize": "2048",
			"QEMU/UEFIBoot": true, "Drive/0/ImageName": "phase.qcow2", "Drive/0/ImageType": "Disk", "Drive/0/Interface": "VirtIO",
			"Information/Name": "Phase 1",
		} {
			if got := at(plist, key); got != value {
				t.Errorf("%s: %s is %v, want %v", arch, key, got, value)
			}
		}
		for _, key := range requiredKeys {
			if at(plist, key) == nil {
				t.Errorf("%s: UTM requires %s", arch, key)
			}
		}
		qcow := filepath.Join(t.TempDir(), "phase.qcow2")
		if err := os.WriteFile(qcow, files["Phase 1.utm/Data/phase.qcow2"], 0o600); err != nil {
			t.Fatal(err)
		}
		checkQCOW2(t, qcow)
		size := map[string]int{X8664: flashX8664, ARM64: flashARM64}[arch]
		if got := len(files["Phase 1.utm/Data/efi_vars.fd"]); got != size {
			t.Errorf("%s: %d bytes of flash for variables, want %d", arch, got, size)
		}
		again, _ := bundleOf(t, Config{Name: "Phase 1", Arch: arch})
		if !bytes.Equal(read(t, path), read(t, again)) {
			t.Errorf("%s: the same disk gives another bundle", arch)
		}
	}
}

// requiredKeys are those that UTM 4.6 decodes without a default
// (Configuration/UTMQemuConfiguration*.swift).
var requiredKeys = []string{
	"Information/Name", "Information/IconCustom", "Information/UUID",
	"System/Architecture", "System/Target", "System/CPU", "System/CPUFlagsAdd", "System/CPUFlagsRemove", "System/CPUCount",
	"System/ForceMulticore", "System/MemorySize", "System/JITCacheSize",
	"QEMU/DebugLog", "QEMU/UEFIBoot", "QEMU/RNGDevice", "QEMU/BalloonDevice", "QEMU/TPMDevice", "QEMU/Hypervisor",
	"QEMU/RTCLocalTime", "QEMU/PS2Controller", "QEMU/AdditionalArguments",
	"Input/UsbBusSupport", "Input/UsbSharing", "Input/MaximumUsbShare",
	"Sharing/DirectoryShareMode", "Sharing/DirectoryShareReadOnly", "Sharing/ClipboardSharing",
	"Display/0/Hardware", "Display/0/DynamicResolution", "Display/0/UpscalingFilter", "Display/0/DownscalingFilter", "Display/0/NativeResolution",
	"Drive/0/ImageType", "Drive/0/Interface", "Drive/0/Identifier",
	"Network/0/Mode", "Network/0/Hardware", "Network/0/MacAddress", "Network/0/IsolateFromHost", "Network/0/PortForward",
	"Serial", "Sound",
}

func checkQCOW2(t *testing.T, path string) {
	t.Helper()
	prog, err := exec.LookPath("qemu-img")
	if err != nil {
		if os.Getenv("PHASE_REQUIRE_TOOLS") != "" {
			t.Fatal(err)
		}
		t.Log("qemu-img is missing: the disk is not checked")
		return
	}
	if out, err := exec.Command(prog, "check", "-f", "qcow2", path).CombinedOutput(); err != nil {
		t.Errorf("qemu-img check: %v\n%s", err, out)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// parsePlist reads a property list strictly: keys and values take turns, and no
// key stands twice.
func parsePlist(t *testing.T, data []byte) any {
	t.Helper()
	d := xml.NewDecoder(bytes.NewReader(data))
	for {
		token, err := d.Token()
		if err != nil {
			t.Fatal(err)
		}
		if start, ok := token.(xml.StartElement); ok && start.Name.Local != "plist" {
			return plistValue(t, d, start)
		}
	}
}

func plistValue(t *testing.T, d *xml.Decoder, start xml.StartElement) any {
	t.Helper()
	switch start.Name.Local {
	case "dict", "array":
		return plistMany(t, d, start.Name.Local == "dict")
	case "true", "false":
		if err := d.Skip(); err != nil {
			t.Fatal(err)
		}
		return start.Name.Local == "true"
	case "string", "integer", "key":
		var text string
		if err := d.DecodeElement(&text, &start); err != nil {
			t.Fatal(err)
		}
		return text
	}
	t.Fatalf("a property list has no <%s>", start.Name.Local)
	return nil
}

func plistMany(t *testing.T, d *xml.Decoder, isDict bool) any {
	t.Helper()
	dict, list, key := map[string]any{}, []any{}, ""
	for {
		token, err := d.Token()
		if err != nil {
			t.Fatal(err)
		}
		switch token := token.(type) {
		case xml.EndElement:
			if isDict {
				return dict
			}
			return list
		case xml.StartElement:
			if isDict != (token.Name.Local == "key") && (isDict && key == "" || token.Name.Local == "key") {
				t.Fatalf("<%s> without a key", token.Name.Local)
			}
			value := plistValue(t, d, token)
			switch {
			case !isDict:
				list = append(list, value)
			case key == "":
				key = value.(string)
			case dict[key] != nil:
				t.Fatalf("the key %s stands twice", key)
			default:
				dict[key], key = value, ""
			}
		}
	}
}

// at finds a value by its path.
func at(v any, path string) any {
	for part := range strings.SplitSeq(path, "/") {
		switch in := v.(type) {
		case map[string]any:
			v = in[part]
		case []any:
			if part != "0" || len(in) == 0 {
				return nil
			}
			v = in[0]
		default:
			return nil
		}
	}
	return v
}

func TestRefusals(t *testing.T) {
	dir := t.TempDir()
	taken := filepath.Join(dir, "taken")
	if err := os.WriteFile(taken, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	free := filepath.Join(dir, "free")
	for name, c := range map[string]Config{
		"no name":      {Out: free, Arch: X8664},
		"markup":       {Out: free, Arch: X8664, Name: "a<b"},
		"a path":       {Out: free, Arch: X8664, Name: "../a"},
		"architecture": {Out: free, Arch: "riscv64", Name: "a"},
	} {
		if err := WriteUTM(context.Background(), bytes.NewReader(nil), 1, c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	disk, size := testDisk()
	err := WriteUTM(context.Background(), bytes.NewReader(disk), size, Config{Out: taken, Arch: X8664, Name: "a", Time: testTime})
	if !errors.Is(err, diskformat.ErrExists) {
		t.Errorf("a file that exists: %v", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("refusals leave files behind: %v, %v", entries, err)
	}
}

// TestEmptyVariables compares the headers with those of an empty store that EDK II
// itself has made.
func TestEmptyVariables(t *testing.T) {
	const template = "/usr/share/OVMF/OVMF_VARS_4M.fd"
	want, err := os.ReadFile(template)
	if err != nil {
		nettest.Lacking(t, "PHASE_REQUIRE_TOOLS", "no empty store to compare with: "+err.Error())
	}
	var got bytes.Buffer
	if err := emptyVariables(&got, X8664); err != nil {
		t.Fatal(err)
	}
	if n := len(volumeHeader()); got.Len() != len(want) || !bytes.Equal(got.Bytes()[:n], want[:n]) {
		t.Errorf("%d bytes that begin with\n%x, want %d that begin with\n%x", got.Len(), got.Bytes()[:n], len(want), want[:n])
	}
}
