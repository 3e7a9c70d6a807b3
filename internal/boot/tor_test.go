package boot

import (
	"errors"
	"testing"
	"time"

	"github.com/phasebased/phase/internal/bootcfg"
	"github.com/phasebased/phase/internal/handover"
	"github.com/phasebased/phase/internal/netup"
)

// The system after a boot through Tor is told so, and of nobody whom it would ask
// without.
func TestThroughTorNobodyIsHandedOn(t *testing.T) {
	w := newWorld(t)
	w.publish(3, w.keys)
	w.corridor.Config.Tor = bootcfg.Tor{Allow: true}
	info := w.corridor.Info
	w.corridor.Info = func(n *netup.Network) handover.Info {
		i := info(n)
		i.Bootstrap = []string{"/ip4/192.0.2.1/tcp/4001"}
		return i
	}
	if err := w.corridor.Run(t.Context()); !errors.Is(err, errJumped) {
		t.Fatal(err)
	}
	if got := w.loaded.Info; !got.Tor || len(got.Bases)+len(got.Bootstrap) > 0 {
		t.Errorf("the next system is told %+v", got)
	}
}

func TestThroughTorThereIsMoreTime(t *testing.T) {
	c := &Corridor{}
	if got := c.budget(time.Second); got != time.Second {
		t.Errorf("directly %s", got)
	}
	c.Config.Tor.Allow = true
	if got := c.budget(time.Second); got != throughTor*time.Second {
		t.Errorf("through Tor %s", got)
	}
}
