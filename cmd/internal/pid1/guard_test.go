//go:build linux

package pid1

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/internal/bootcfg"
	"github.com/phasebased/phase/internal/netup"
)

func TestGuardTurnsPanicsIntoErrors(t *testing.T) {
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	var caught *PanicError
	err := Guard(log, func() error { var none []int; return fmt.Errorf("%d", none[len(none)]) })
	if !errors.As(err, &caught) || caught.Code() != "BOOT-090" {
		t.Errorf("got %v", err)
	}
	if err := Guard(log, func() error { return io.EOF }); !errors.Is(err, io.EOF) {
		t.Errorf("an ordinary error became %v", err)
	}
}

func TestNetworkConfigurationSurvivesTheJump(t *testing.T) {
	want := bootcfg.Network{Timeout: time.Minute, LinkLocal: true, Interfaces: []bootcfg.Interface{
		{Name: "eth0", Off: true},
		{MAC: "52:54:00:12:34:56", Address: netip.MustParsePrefix("192.168.1.10/24"), DNS: []netip.Addr{netip.MustParseAddr("192.168.1.1")}},
	}, Proxy: "http://me:secret@proxy.example:3128", PortalCheck: "http://portal.example/", KeepMAC: true, WiFi: bootcfg.WiFi{
		Country: "DE", Networks: []bootcfg.WiFiNetwork{{SSID: "home", Passphrase: "correct horse"}, {SSID: "caf\u00e9", Hidden: true}},
	}}
	for i := range reflect.TypeFor[bootcfg.Network]().NumField() {
		if field := reflect.TypeFor[bootcfg.Network]().Field(i); field.Name != "Off" && reflect.ValueOf(want).Field(i).IsZero() {
			t.Errorf("this test says nothing of %s", field.Name)
		}
	}
	got, err := ReadNetwork(WriteNetwork(want))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	claim := netup.Claim{MAC: "52:54:00:12:34:56", VLAN: 3, Address: netip.MustParseAddr("169.254.7.8")}
	data := WriteNetwork(want, claim)
	if got := ReadClaims(data); !slices.Equal(got, []netup.Claim{claim}) {
		t.Errorf("claims %+v of %s", got, data)
	}
	if got, err := ReadNetwork(data); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("with a claim: %+v, %v", got, err)
	}
	for _, rubbish := range []string{"", "{}", `{"Claims":[{"Address":"here"}]}`, `{"Claims":7}`} {
		if got := ReadClaims([]byte(rubbish)); got != nil {
			t.Errorf("%q claims %+v", rubbish, got)
		}
	}
	if got, err := ReadNetwork([]byte(`{"Claims":7,"KeepMAC":true}`)); err != nil || !got.KeepMAC {
		t.Errorf("with claims that cannot be read: %+v, %v", got, err)
	}
	if got, err := ReadNetwork([]byte(`{"Newer":true,"KeepMAC":true}`)); err != nil || !got.KeepMAC {
		t.Errorf("with a member of a newer medium: %+v, %v", got, err)
	}
	if _, err := ReadNetwork([]byte(`{"Off":"secret"}`)); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("refused with %v", err)
	}
}

// TestLocalModeFallsBackSooner: where DHCP is nothing to count on.
func TestLocalModeFallsBackSooner(t *testing.T) {
	for mode, want := range map[bootcfg.Mode]time.Duration{bootcfg.Internet: 0, bootcfg.Private: 0, bootcfg.Local: localFallback} {
		if got := NetworkConfig(bootcfg.Network{}, mode).FallbackAfter; got != want {
			t.Errorf("%v: after %v, want %v", mode, got, want)
		}
	}
}
