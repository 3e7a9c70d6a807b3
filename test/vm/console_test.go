package vm_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/internal/lab"
	"github.com/phasebased/phase/internal/vm"
)

// TestCardWithoutADriver boots a machine whose only network card is one that the
// medium's kernel has no driver for: the person is told which it is.
func TestCardWithoutADriver(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.medium(lab.ImageOptions{})
	outcome, console := b.boot(lab.BootOptions{Nets: []vm.Net{{Model: "e1000"}}})
	b.refused(outcome, console, "NET-001", "no network interface was found")
	b.shows(console, "(Ethernet, 8086:100e): no module of this kernel knows it")
}

// TestTypedOnTheConsole boots where nothing is known of providers and the address
// of this machine is not the one to use: a person types both.
func TestTypedOnTheConsole(t *testing.T) {
	b := setup(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*bootWithin)
	defer cancel()
	b.publish(b.release(1), "")
	b.medium(lab.ImageOptions{}) // before there is a provider that it could name
	b.serve()
	m := b.on(ctx, "machine", lab.BootOptions{})
	if m.outcome.Failure == nil {
		t.Fatalf("the machine has found something:\n%s", calm(m.console))
	}
	b.shows(m.console, "u type a provider's URL, n network settings")

	b.types(ctx, m, "n", []answer{
		{"Interface", "1"}, {"Address (d DHCP", "s"}, {"Address, such as", "10.0.2.99/24"}, {"Gateway", "10.0.2.2"},
		{"Name servers", "-"}, {"VLAN", "-"}, {"Proxy", "-"},
	})
	b.follow(ctx, m)
	b.shows(m.console, "eth0 10.0.2.99/24")

	b.types(ctx, m, "u", []answer{{"URL, such as", b.ports.Base()}})
	b.follow(ctx, m)
	b.verified(m.outcome, m.console)
	for _, want := range []string{"Discover ok " + b.ports.Base(), "/ip4/10.0.2.99/tcp/4001"} {
		b.shows(m.console, want)
	}
}

// answer is what a person types when asked.
type answer struct{ prompt, text string }

// types presses a key on the failure screen and answers what is asked then.
func (b *bench) types(ctx context.Context, m *booted, key string, answers []answer) {
	b.Helper()
	b.sends(m, key)
	for _, a := range answers {
		within, cancel := context.WithTimeout(ctx, time.Minute)
		err := m.await(within, a.prompt)
		cancel()
		if err != nil {
			b.Fatalf("nobody asked for %q: %v; the console shows:\n%s", a.prompt, err, strings.Join(m.machine.ConsoleTail(80), "\n"))
		}
		b.sends(m, a.text+"\r")
	}
}

func (b *bench) sends(m *booted, keys string) {
	b.Helper()
	if err := m.machine.SendConsole([]byte(keys)); err != nil {
		b.Fatal(err)
	}
}
