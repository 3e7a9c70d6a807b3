//go:build linux

package pid1

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"reflect"
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
	}}
	got, err := ReadNetwork(WriteNetwork(want))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if _, err := ReadNetwork([]byte(`{"Offf":true}`)); err == nil {
		t.Error("an unknown key was accepted")
	}
}
