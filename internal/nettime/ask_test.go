package nettime

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/internal/nettime/nettimetest"
)

// Bounds for a busy machine; on an idle one everything takes milliseconds.
const (
	near   = 2 * time.Second  // how exact an answer must be
	prompt = 15 * time.Second // what need not be waited for is there by then
	enough = 40 * time.Second // the bound where it must not matter
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// serve runs a time server whose clock says t; alter may be nil.
func serve(t *testing.T, now time.Time, alter func([]byte) [][]byte) *nettimetest.Server {
	t.Helper()
	s, err := nettimetest.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.SetTime(now)
	s.Alter = alter
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the time server: %v", err)
		}
	})
	return s
}

// change makes a function that alters an answer in place.
func change(f func(p []byte)) func([]byte) [][]byte {
	return func(p []byte) [][]byte { f(p); return [][]byte{p} }
}

func silence([]byte) [][]byte { return nil }

// plain asks these servers without NTS on a machine whose clock says noon.
func plain(t *testing.T, timeout time.Duration, servers ...*nettimetest.Server) (Answer, time.Duration, error) {
	t.Helper()
	q := Query{Now: at(noon), Timeout: timeout}
	for _, s := range servers {
		q.Servers = append(q.Servers, Server{Address: s.Addr()})
	}
	return ask(t, q)
}

// ask asks, and checks what holds of every Ask.
func ask(t *testing.T, q Query) (Answer, time.Duration, error) {
	t.Helper()
	before := runtime.NumGoroutine()
	began := time.Now()
	a, err := Ask(context.Background(), q)
	took := time.Since(began)
	if q.Timeout == 0 {
		q.Timeout = DefaultTimeout
	}
	if took > q.Timeout+prompt {
		t.Errorf("took %s, the bound is %s", took, q.Timeout)
	}
	if after := runtime.NumGoroutine(); after > before {
		stop := time.Now().Add(5 * time.Second) // a server's or the runtime's own may be on its way
		for after > before && time.Now().Before(stop) {
			runtime.Gosched()
			after = runtime.NumGoroutine()
		}
		if after > before {
			t.Errorf("%d goroutines before, %d after", before, after)
		}
	}
	if len(a.Servers) != len(q.Servers) {
		t.Errorf("%d results for %d servers", len(a.Servers), len(q.Servers))
	}
	for n, r := range a.Servers {
		if r.Address != q.Servers[n].Address || r.NTS != q.Servers[n].NTS || r.String() == "" {
			t.Errorf("result %d: %+v", n, r)
		}
	}
	if err != nil && (a.Authenticated || a.Offset != 0) {
		t.Errorf("an error, and an answer: %+v", a)
	}
	return a, took, err
}

func wantOffset(t *testing.T, a Answer, want time.Duration) {
	t.Helper()
	if d := (a.Offset - want).Abs(); d > near {
		t.Errorf("offset %s, want %s", a.Offset, want)
	}
}

// wantError checks the reason of a failure, and what it says.
func wantError(t *testing.T, err error, reason Reason, says ...string) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Reason != reason {
		t.Errorf("error %v, want reason %d", err, reason)
		return
	}
	for _, s := range says {
		if !strings.Contains(e.Error(), s) {
			t.Errorf("%q does not say %q", e, s)
		}
	}
	if e.Code() != fmt.Sprintf("NET-%03d", reason) || e.Hint() == "" {
		t.Errorf("code %s, hint %q", e.Code(), e.Hint())
	}
}

func TestOneServer(t *testing.T) {
	s := serve(t, noon.Add(90*time.Minute), nil)
	a, took, err := plain(t, enough, s)
	if err != nil {
		t.Fatal(err)
	}
	wantOffset(t, a, 90*time.Minute)
	if a.Authenticated || a.Servers[0].Authenticated() {
		t.Error("a plain answer counts as authenticated")
	}
	if took > prompt || a.Agreed != 1 || a.Usable != 1 || s.Asked() != 1 {
		t.Errorf("took %s, asked %d times: %+v", took, s.Asked(), a)
	}
	r := a.Servers[0]
	if r.Stratum != 2 || r.RTT <= 0 || r.RTT > prompt || r.Time.Sub(noon.Add(90*time.Minute)).Abs() > near {
		t.Errorf("result %+v", r)
	}
	if want := s.Addr() + ": 2026-11-23 13:30:0"; !strings.HasPrefix(r.String(), want) || !strings.Contains(r.String(), ", stratum 2") {
		t.Errorf("%q, want %q…", r, want)
	}
}

// TestNowRunsOn: the network's time is carried on without Query.Now.
func TestNowRunsOn(t *testing.T) {
	s := serve(t, noon.Add(time.Hour), nil)
	now := noon
	a, _, err := ask(t, Query{Servers: []Server{{Address: s.Addr()}}, Now: func() time.Time { return now }, Timeout: enough})
	if err != nil {
		t.Fatal(err)
	}
	now = noon.Add(1000 * time.Hour) // the machine's clock is set meanwhile
	if d := a.Now().Sub(s.Time()).Abs(); d > near {
		t.Errorf("Now is %s off", d)
	}
	if !(Answer{Offset: time.Hour}).Now().IsZero() {
		t.Error("an answer nobody gave has a time")
	}
}

// TestAnyClock: whatever the machine's clock says, and on both sides of the
// end of NTP's first era in February 2036, the offset is the difference.
func TestAnyClock(t *testing.T) {
	date := func(year int) time.Time { return time.Date(year, 3, 1, 0, 0, 0, 0, time.UTC) }
	for _, machine := range []time.Time{date(1970), date(2026), date(2036), date(2040), date(2104)} {
		for _, network := range []time.Time{date(1971), date(2026), date(2035), date(2036), date(2037), date(2100)} {
			s := serve(t, network, nil)
			a, _, err := ask(t, Query{Servers: []Server{{Address: s.Addr()}}, Now: at(machine)})
			if err != nil {
				t.Errorf("%d asks in %d: %v", machine.Year(), network.Year(), err)
				continue
			}
			wantOffset(t, a, network.Sub(machine))
		}
	}
	s := serve(t, noon, nil)
	a, _, err := ask(t, Query{Servers: []Server{{Address: s.Addr()}}, Now: func() time.Time { return time.Time{} }})
	if err != nil || a.Offset <= 0 || a.Servers[0].Time.Sub(noon).Abs() > near {
		t.Errorf("a clock in the year 1: %+v, %v", a, err)
	}
}

func TestMedian(t *testing.T) {
	a, _, err := plain(t, enough, serve(t, noon.Add(-4*time.Second), nil), serve(t, noon.Add(4*time.Second), nil))
	if err != nil || a.Agreed != 2 {
		t.Fatalf("%+v, %v", a, err)
	}
	wantOffset(t, a, 0)
}

func TestMinorityOfLiars(t *testing.T) {
	lie := noon.AddDate(10, 0, 0)
	a, took, err := plain(t, enough, serve(t, lie, nil), serve(t, noon, nil), serve(t, lie.AddDate(1, 0, 0), nil), serve(t, noon, nil), serve(t, noon, nil))
	if err != nil || a.Agreed < 3 {
		t.Fatalf("%+v, %v", a, err)
	}
	wantOffset(t, a, 0)
	if took > prompt {
		t.Errorf("took %s", took)
	}
}

// TestMajorityOfLiars cannot be seen through; what the package promises is
// that it does not call the result authenticated.
func TestMajorityOfLiars(t *testing.T) {
	lie := noon.AddDate(10, 0, 0)
	a, _, err := plain(t, enough, serve(t, lie, nil), serve(t, noon, nil), serve(t, lie, nil))
	if err != nil || a.Authenticated {
		t.Fatalf("%+v, %v", a, err)
	}
	wantOffset(t, a, lie.Sub(noon))
}

func TestDisagreement(t *testing.T) {
	for name, times := range map[string][]time.Duration{
		"two":          {0, time.Hour},
		"barely":       {0, Agreement + 3*time.Second},
		"two and two":  {0, 0, time.Hour, time.Hour},
		"all of three": {0, -time.Hour, time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			var servers []*nettimetest.Server
			var says []string
			for _, d := range times {
				s := serve(t, noon.Add(d+20*time.Second), nil)
				servers = append(servers, s)
				says = append(says, s.Addr()+": "+noon.Add(d).Format("2006-01-02 15:04"))
			}
			a, took, err := plain(t, enough, servers...)
			wantError(t, err, NoAgreement, append(says, "contradict")...)
			if took > prompt {
				t.Errorf("took %s although all had answered", took)
			}
			for _, r := range a.Servers {
				if r.Err != nil {
					t.Errorf("%v", r)
				}
			}
		})
	}
}

// TestEarlyReturn: a majority settles it; silent servers cost nothing.
func TestEarlyReturn(t *testing.T) {
	a, took, err := plain(t, enough, serve(t, noon, silence), serve(t, noon, nil), serve(t, noon, nil))
	if err != nil || took > prompt || !errors.Is(a.Servers[0].Err, ErrNotWaited) {
		t.Errorf("took %s: %+v, %v", took, a, err)
	}
}

// TestMinorityAnswers: no majority of those asked, so the rest are waited for,
// and then those that answered decide.
func TestMinorityAnswers(t *testing.T) {
	a, took, err := plain(t, 2*time.Second, serve(t, noon, silence), serve(t, noon.Add(time.Hour), nil), serve(t, noon, silence))
	if err != nil || a.Agreed != 1 || took < 2*time.Second {
		t.Fatalf("took %s: %+v, %v", took, a, err)
	}
	wantOffset(t, a, time.Hour)
	if !errors.Is(a.Servers[0].Err, ErrNoAnswer) {
		t.Errorf("the silent one: %v", a.Servers[0])
	}
}

func TestSilence(t *testing.T) {
	s := serve(t, noon, silence)
	_, took, err := plain(t, 2*time.Second, s)
	wantError(t, err, NoAnswer, "within 2", s.Addr()+": no answer")
	if took < 2*time.Second || s.Asked() != 2 {
		t.Errorf("took %s, asked %d times, want 2", took, s.Asked())
	}
}

// TestLostPacket: the first answer is lost, the second try brings one.
func TestLostPacket(t *testing.T) {
	n := 0
	a, took, err := plain(t, enough, serve(t, noon.Add(time.Hour), func(p []byte) [][]byte {
		if n++; n == 1 {
			return nil
		}
		return [][]byte{p}
	}))
	if err != nil || took < firstWait || took > firstWait+prompt {
		t.Fatalf("took %s: %v", took, err)
	}
	wantOffset(t, a, time.Hour)
}

func TestNobodyThere(t *testing.T) {
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := c.LocalAddr().String()
	c.Close()
	_, took, err := ask(t, Query{Servers: []Server{{Address: address}}})
	wantError(t, err, NoAnswer, address+": cannot be reached", "refused")
	if took > prompt {
		t.Errorf("took %s", took)
	}
}

func put(p []byte, t time.Time) {
	binary.BigEndian.PutUint32(p, uint32(t.Unix()+2208988800))
	binary.BigEndian.PutUint32(p[4:], 0)
}

// TestForeign: packets that do not belong to the question are passed over, and
// the answer behind them is taken.
func TestForeign(t *testing.T) {
	lie := noon.AddDate(20, 0, 0)
	forged := func(f func(p []byte)) func([]byte) [][]byte {
		return func(p []byte) [][]byte {
			q := append([]byte(nil), p...)
			put(q[16:], lie.Add(-time.Second))
			put(q[32:], lie)
			put(q[40:], lie)
			f(q)
			return [][]byte{q}
		}
	}
	for name, alter := range map[string]func([]byte) [][]byte{
		"another origin":    forged(func(p []byte) { p[24] ^= 1 }),
		"no origin":         forged(func(p []byte) { clear(p[24:32]) }),
		"zeros":             forged(func(p []byte) { clear(p) }),
		"a client's packet": forged(func(p []byte) { p[0] = p[0]&^7 | 3 }),
		"broadcast":         forged(func(p []byte) { p[0] = p[0]&^7 | 5 }),
		"control message":   forged(func(p []byte) { p[0] = p[0]&^7 | 6 }),
		"a kiss of death":   forged(func(p []byte) { p[1] = 0; p[24] ^= 1 }),
		"empty":             func([]byte) [][]byte { return [][]byte{{}} },
		"47 bytes":          func(p []byte) [][]byte { return [][]byte{p[:47]} },
		"huge garbage":      func([]byte) [][]byte { return [][]byte{make([]byte, 60_000)} },
		"many":              func([]byte) [][]byte { return make([][]byte, 50) },
	} {
		s := serve(t, noon.Add(time.Hour), func(p []byte) [][]byte { return append(alter(p), p) })
		a, took, err := plain(t, enough, s)
		if err != nil || took > prompt || s.Asked() != 1 {
			t.Errorf("%s: took %s: %v", name, took, err)
			continue
		}
		wantOffset(t, a, time.Hour)

		alone := serve(t, noon, alter)
		_, _, err = plain(t, 50*time.Millisecond, alone)
		wantError(t, err, NoAnswer, alone.Addr()+": no answer")
	}
}

// TestForeignIsTold: the log says that somebody interfered.
func TestForeignIsTold(t *testing.T) {
	_, _, err := plain(t, 2*time.Second, serve(t, noon, change(func(p []byte) { p[24] ^= 1 })))
	wantError(t, err, NoAnswer, "1 packets that do not belong to the question came instead")
	if !errors.Is(err, ErrNoAnswer) {
		t.Error(err)
	}
}

// TestUnusable: answers to the question that must not be used.
func TestUnusable(t *testing.T) {
	for name, c := range map[string]struct {
		alter func(p []byte)
		says  string
	}{
		"kiss of death":      {func(p []byte) { p[1] = 0; copy(p[12:], "RATE") }, "asks not to be asked (RATE)"},
		"kiss in odd bytes":  {func(p []byte) { p[1] = 0; copy(p[12:], "\x1b[2J") }, "asks not to be asked"},
		"stratum 16":         {func(p []byte) { p[1] = 16 }, "stratum"},
		"stratum 255":        {func(p []byte) { p[1] = 255 }, "stratum"},
		"not synchronised":   {func(p []byte) { p[0] |= 0xc0 }, "leap"},
		"no transmit time":   {func(p []byte) { clear(p[40:48]) }, "transmit time"},
		"no times":           {func(p []byte) { clear(p[32:48]) }, "transmit time"},
		"ticks backwards":    {func(p []byte) { put(p[32:], noon.Add(time.Hour)) }, "backwards"},
		"held for a century": {func(p []byte) { put(p[32:], noon.AddDate(-60, 0, 0)) }, "contradict the time that passed"},
		"held for a minute":  {func(p []byte) { put(p[32:], noon.Add(-time.Minute)) }, "contradict the time that passed"},
		"set in the future":  {func(p []byte) { put(p[16:], noon.Add(time.Hour)) }, "invalid time"},
		"set days ago":       {func(p []byte) { put(p[16:], noon.AddDate(0, 0, -3)) }, "fresh"},
		"far from its root":  {func(p []byte) { binary.BigEndian.PutUint32(p[8:], 20<<16) }, "dispersion"},
		"long way to root":   {func(p []byte) { binary.BigEndian.PutUint32(p[4:], 40<<16) }, "dispersion"},
	} {
		a, took, err := plain(t, enough, serve(t, noon, change(c.alter)))
		wantError(t, err, NoAnswer, c.says)
		if !errors.Is(err, ErrUnusable) || !errors.Is(a.Servers[0].Err, ErrUnusable) || took > prompt {
			t.Errorf("%s: took %s: %v", name, took, err)
		}
		if strings.ContainsRune(err.Error(), 0x1b) {
			t.Errorf("%q goes to a console", err)
		}
	}
}

// TestLongAnswer: an answer with more behind it than is read is an answer.
func TestLongAnswer(t *testing.T) {
	a, _, err := plain(t, enough, serve(t, noon.Add(time.Hour), func(p []byte) [][]byte { return [][]byte{append(p, make([]byte, 20_000)...)} }))
	if err != nil {
		t.Fatal(err)
	}
	wantOffset(t, a, time.Hour)
}

func TestSlowAnswer(t *testing.T) {
	s := serve(t, noon, func(p []byte) [][]byte { time.Sleep(300 * time.Millisecond); return [][]byte{p} })
	a, _, err := plain(t, enough, s)
	if err != nil || a.Servers[0].RTT < 300*time.Millisecond {
		t.Fatalf("%+v, %v", a, err)
	}
	wantOffset(t, a, 0)
}

func TestCallerGivesUp(t *testing.T) {
	s := serve(t, noon, silence)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	began := time.Now()
	_, err := Ask(ctx, Query{Servers: []Server{{Address: s.Addr()}}})
	wantError(t, err, NoAnswer, "given up")
	if took := time.Since(began); took > prompt || !errors.Is(err, context.Canceled) {
		t.Errorf("took %s: %v", took, err)
	}
}

func TestNobodyToAsk(t *testing.T) {
	_, _, err := ask(t, Query{})
	wantError(t, err, NoServers)
	_, took, err := ask(t, Query{Servers: []Server{{Address: ""}, {Address: "time.example:ntp"}, {Address: "a b"}, {Address: "[::1"}, {Address: "::1%lo"},
		{Address: "http://time.example"}, {Address: "time.example:0"}, {Address: "time.example:65536"}, {Address: strings.Repeat("a", 300)}, {Address: "\x1b[2J"}, {Address: "a..b", NTS: true}}})
	wantError(t, err, NoServers, "not a host or host:port")
	if took > prompt || strings.ContainsRune(err.Error(), 0x1b) {
		t.Errorf("took %s: %q", took, err)
	}
}

func TestAtMostEightOnce(t *testing.T) {
	var q Query
	var servers []*nettimetest.Server
	for range MaxServers + 2 {
		s := serve(t, time.Now(), nil)
		servers = append(servers, s)
		q.Servers = append(q.Servers, Server{Address: s.Addr()})
	}
	q.Servers = append(q.Servers, q.Servers[0])
	a, _, err := ask(t, q)
	if err != nil {
		t.Fatal(err)
	}
	for n, s := range servers {
		if n >= MaxServers && (s.Asked() > 0 || !errors.Is(a.Servers[n].Err, ErrTooMany)) {
			t.Errorf("server %d was asked: %v", n, a.Servers[n])
		}
	}
	if err := a.Servers[MaxServers+2].Err; !errors.Is(err, ErrTwice) {
		t.Errorf("the one named twice: %v", err)
	}
}

// TestOneVoiceEach: a liar named twice is still a minority.
func TestOneVoiceEach(t *testing.T) {
	liar, honest, other := serve(t, noon.AddDate(1, 0, 0), nil), serve(t, noon, nil), serve(t, noon, nil)
	a, _, err := plain(t, enough, liar, liar, liar, honest, other)
	if err != nil || a.Agreed != 2 {
		t.Fatalf("%+v, %v", a, err)
	}
	wantOffset(t, a, 0)
}

func TestLocalOnly(t *testing.T) {
	s := serve(t, noon, nil)
	a, took, err := ask(t, Query{
		LocalOnly: true, Now: at(noon),
		Servers: []Server{{Address: "time.example.com"}, {Address: "192.0.2.1"}, {Address: "[2001:db8::1]:123"}, {Address: "nts.example.org", NTS: true}, {Address: s.Addr()}},
	})
	if err != nil || took > prompt {
		t.Fatalf("took %s: %v", took, err)
	}
	wantOffset(t, a, 0)
	for _, r := range a.Servers[:4] {
		if !errors.Is(r.Err, ErrNotLocal) {
			t.Errorf("%v", r)
		}
	}
	_, _, err = ask(t, Query{LocalOnly: true, Servers: []Server{{Address: "8.8.8.8"}}})
	wantError(t, err, NoServers, "beyond the local network")
}

// TestLocalDialer: even a local name does not lead out.
func TestLocalDialer(t *testing.T) {
	a := &asking{dialer: newDialer(true)}
	for _, address := range []string{"192.0.2.1:123", "[2001:db8::1]:123", "8.8.8.8:4460"} {
		for _, network := range []string{"udp", "tcp"} {
			if c, err := a.dial(t.Context(), network, address); !errors.Is(err, ErrNotLocal) {
				t.Errorf("%s %s: %v, %v", network, address, c, err)
			}
		}
	}
	c, err := a.dial(t.Context(), "udp", "127.0.0.1:123")
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

func TestUnknownName(t *testing.T) {
	_, _, err := ask(t, Query{Servers: []Server{{Address: "no-such-host.invalid"}, {Address: "no-such-host.invalid", NTS: true}}, Timeout: 2 * time.Second})
	wantError(t, err, NoAnswer, "no-such-host.invalid: ", "no-such-host.invalid (NTS): ")
}
