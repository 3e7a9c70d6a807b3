package mdns

import (
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"
)

// telling is what a provider on eth0 says, one record after the other.
func telling(t testing.TB, instance, host, addr string, port uint16, text ...string) []record {
	full := mustName(t, append([]string{instance}, serviceLabels...)...)
	target := mustName(t, host, "local")
	a := record{name: target, kind: typeA, ttl: 120, addr: netip.MustParseAddr(addr)}
	if a.addr.Is6() {
		a.kind = typeAAAA
	}
	return []record{
		{name: mustName(t, serviceLabels...), kind: typePTR, ttl: 120, target: full},
		{name: full, kind: typeSRV, ttl: 120, port: port, target: target},
		{name: full, kind: typeTXT, ttl: 120, text: text},
		a,
	}
}

func from(addr string, records ...record) packet {
	m := &message{flags: flagResponse, answers: records}
	return packet{data: m.pack(), from: netip.AddrPortFrom(netip.MustParseAddr(addr), 5353), link: eth0}
}

func listen2(t testing.TB) (*browser, *[]announced) {
	heard := &[]announced{}
	return newBrowser(mustName(t, serviceLabels...), func(a announced) { *heard = append(*heard, a) }), heard
}

// Records may come in any order and any number of packets.
func TestBrowserCollects(t *testing.T) {
	records := telling(t, "p", "Host", "192.168.1.5", 80, "channel=stable")
	for _, order := range [][]int{{0, 1, 2, 3}, {1, 3, 2}, {2, 1, 3}, {0, 2, 1, 3}} {
		b, heard := listen2(t)
		for n, i := range order {
			missing := b.take(from("192.168.1.5", records[i]))
			if last := n == len(order)-1; missing == last {
				t.Errorf("%v: after %d records missing is %v", order, n+1, missing)
			}
		}
		if len(*heard) != 1 || (*heard)[0].instance != "p" || (*heard)[0].port != 80 || !slices.Equal((*heard)[0].addrs, []netip.Addr{netip.MustParseAddr("192.168.1.5")}) {
			t.Errorf("%v: %+v", order, *heard)
		}
	}
	b, heard := listen2(t)
	b.take(from("192.168.1.5", records...))
	b.take(from("192.168.1.5", records...)) // nothing new
	changed := slices.Clone(records)
	changed[2].text = []string{"channel=testing"}
	b.take(from("192.168.1.5", changed...))
	more := records[3]
	more.addr = netip.MustParseAddr("192.168.1.6")
	b.take(from("192.168.1.5", more))
	if len(*heard) != 3 || len((*heard)[2].addrs) != 2 {
		t.Errorf("%+v", *heard)
	}
	gone := records[0]
	gone.ttl = 0
	b.take(from("192.168.1.5", gone))
	if len(b.instances)+len(b.hosts)+len(b.perSender) != 0 {
		t.Errorf("after the goodbye: %+v", b)
	}
}

func TestBrowserIgnores(t *testing.T) {
	b, heard := listen2(t)
	good := telling(t, "p", "host", "192.168.1.5", 80)
	query := packet{data: (&message{answers: good}).pack(), from: netip.MustParseAddrPort("192.168.1.5:5353"), link: eth0}
	failed := packet{data: (&message{flags: flagResponse | 3, answers: good}).pack(), from: query.from, link: eth0}
	for _, p := range []packet{query, failed, {data: []byte("junk"), from: query.from, link: eth0}} {
		b.take(p)
	}
	for _, addr := range []string{"127.0.0.1", "0.0.0.0", "8.8.8.8", "224.0.0.251", "255.255.255.255", "::1", "::", "2001:db8::1", "::ffff:192.168.1.5"} {
		b.take(from("192.168.1.5", telling(t, "x"+addr, "h"+fmt.Sprint(len(addr))+addr, addr, 80)...))
	}
	if len(*heard) != 0 {
		t.Errorf("%+v", *heard)
	}
}

// A flood from as many addresses as the sender likes costs bounded memory and time,
// and those who were there before stay.
func TestBrowserFlood(t *testing.T) {
	b, heard := listen2(t)
	b.take(from("192.168.1.5", telling(t, "honest", "honest", "192.168.1.5", 80)...))
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	begin := time.Now()
	const packets = 20_000
	for i := range packets {
		sender := fmt.Sprintf("192.168.1.%d", 10+i%200)
		b.take(from(sender, telling(t, fmt.Sprintf("x%d", i), fmt.Sprintf("h%d", i), sender, 80, fmt.Sprintf("n=%d", i))...))
		// The same instance moves from host to host, and says goodbye.
		moving := telling(t, "moving", fmt.Sprintf("m%d", i), sender, 80)
		b.take(from("192.168.1.6", moving...))
		if i%3 == 0 {
			moving[0].ttl = 0
			b.take(from("192.168.1.6", moving[0]))
		}
	}
	took := time.Since(begin)
	runtime.GC()
	runtime.ReadMemStats(&after)
	grown := int64(after.HeapAlloc) - int64(before.HeapAlloc) - int64(cap(*heard))*200
	t.Logf("%d packets in %v, %d KiB kept", packets, took, grown>>10)
	if len(b.instances) > maxEntries || len(b.hosts) > maxEntries || len(b.perSender) > maxEntries || !b.flooded {
		t.Errorf("%d instances, %d hosts, %d senders, flooded %v", len(b.instances), len(b.hosts), len(b.perSender), b.flooded)
	}
	if took > 20*time.Second || grown > 16<<20 {
		t.Errorf("took %v, %d bytes", took, grown)
	}
	if (*heard)[0].instance != "honest" || b.instances[key{eth0.index, mustName(t, append([]string{"honest"}, serviceLabels...)...)}] == nil {
		t.Error("the honest one is gone")
	}
	one := newBrowser(b.service, func(announced) {})
	for i := range 2 * maxPerSender {
		one.take(from("192.168.1.66", telling(t, fmt.Sprintf("x%d", i), "h", "192.168.1.66", 80)...))
	}
	if len(one.instances) != maxPerSender {
		t.Errorf("%d instances of one sender", len(one.instances))
	}
}
