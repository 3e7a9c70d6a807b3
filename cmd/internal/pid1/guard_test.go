//go:build linux

package pid1

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/internal/bootcfg"
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
	if got, err := ReadNetwork([]byte(`{"Newer":true,"KeepMAC":true}`)); err != nil || !got.KeepMAC {
		t.Errorf("with a member of a newer medium: %+v, %v", got, err)
	}
	if _, err := ReadNetwork([]byte(`{"Off":"secret"}`)); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("refused with %v", err)
	}
}
