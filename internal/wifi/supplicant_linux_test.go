package wifi

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// patience bounds waits of tests; nothing should ever take that long.
const patience = time.Minute

// run runs a supplicant until the test ends, and returns what Run returned.
func run(t *testing.T, s *Supplicant) (stop func() error) {
	t.Helper()
	s.pauses = func(int) time.Duration { return time.Millisecond }
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	ended := false
	stop = func() error {
		if ended {
			return nil
		}
		ended = true
		cancel()
		select {
		case err := <-done:
			return err
		case <-time.After(patience):
			return errors.New("Run goes on")
		}
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return stop
}

func await(t *testing.T, events chan Event, what What) Event {
	t.Helper()
	for {
		select {
		case e := <-events:
			if e.What == what {
				return e
			}
		case <-time.After(patience):
			t.Fatalf("no event %d", what)
		}
	}
}

const secret = `correct "horse' \x00`

// connects answers a selection as wpa_supplicant does.
func connects(f *fake, id int) {
	f.event("SME: Trying to authenticate with 02:00:00:00:00:00 (SSID='CTRL-EVENT-CONNECTED' freq=2412 MHz)",
		fmt.Sprintf("CTRL-EVENT-CONNECTED - Connection to 02:00:00:00:00:00 completed [id=%d id_str=]", id))
}

func TestJoin(t *testing.T) {
	f, s, events := newFake(t, Config{Country: "DE", RandomMAC: true, Networks: []Network{{SSID: "home", Passphrase: secret}, {SSID: "old"}}})
	f.joined = connects
	stop := run(t, s)
	await(t, events, Started)
	name := "caf\xc3\xa9 \"\\\n\xff"
	if err := s.Join(t.Context(), Network{SSID: name, Passphrase: secret, Hidden: true}); err != nil {
		t.Fatal(err)
	}
	if e := await(t, events, Connected); e.SSID != name || e.Interface != "wlan0" || e.Err != nil {
		t.Errorf("event %+v", e)
	}
	networks, enabled := f.state()
	want := map[string]string{
		"ssid": "636166c3a920225c0aff", "key_mgmt": "WPA-PSK WPA-PSK-SHA256 SAE", "ieee80211w": "1", "proto": "RSN",
		"psk": `"` + secret + `"`, "sae_password": `"` + secret + `"`, "scan_ssid": "1", "mac_addr": "1", "priority": "3",
	}
	if len(networks) != 3 || fmt.Sprint(networks[2]) != fmt.Sprint(want) || !enabled[0] || !enabled[1] || !enabled[2] {
		t.Errorf("networks %v, enabled %v", networks, enabled)
	}
	if networks[0]["priority"] != "2" || networks[1]["priority"] != "1" || networks[1]["key_mgmt"] != "NONE" || networks[1]["psk"] != "" {
		t.Errorf("networks %v", networks)
	}
	f.event("CTRL-EVENT-DISCONNECTED bssid=02:00:00:00:00:00 reason=4")
	if e := await(t, events, Lost); e.SSID != name {
		t.Errorf("event %+v", e)
	}
	checkSecrecy(t, f, s)
	if err := stop(); err != nil || len(f.said("TERMINATE")) != 1 {
		t.Errorf("Run: %v, said %v", err, f.said("TERMINATE"))
	}
}

// checkSecrecy looks for the passphrase where others could find it.
func checkSecrecy(t *testing.T, f *fake, s *Supplicant) {
	t.Helper()
	n := s.cfg.Networks[0]
	places := map[string]string{
		"arguments": strings.Join(f.args, " "), "files": f.files(),
		"formats": fmt.Sprintf("%v %+v %#v %s %q %x %v %+v %#v", n, n, n, n, n, n, s, s.cfg.Networks, &n) + n.LogValue().String(),
	}
	for place, text := range places {
		if strings.Contains(text, "horse") || strings.Contains(text, fmt.Sprintf("%x", secret)) {
			t.Errorf("the passphrase is in the %s: %s", place, text)
		}
	}
	for _, want := range []string{"country=DE\n", "preassoc_mac_addr=1\n", "p2p_disabled=1\n", "ctrl_interface=" + f.dir + "\n"} {
		if !strings.Contains(places["files"], want) {
			t.Errorf("the configuration lacks %q:\n%s", want, places["files"])
		}
	}
	if info, err := os.Stat(f.dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder has mode %v, %v", info.Mode(), err)
	}
}

func TestJoinFailures(t *testing.T) {
	const air = "id=0\nlevel=-40\nflags=%s\nssid=x\n====\n####\n"
	disabled := func(reason string) func(*fake, int) {
		return func(f *fake, id int) {
			f.event(fmt.Sprintf(`CTRL-EVENT-SSID-TEMP-DISABLED id=%d ssid="a\" reason=CONN_FAILED id=9" auth_failures=1 duration=10 reason=%s`, id, reason))
		}
	}
	times := func(n int, line string) func(*fake, int) {
		return func(f *fake, _ int) {
			for range n {
				f.event(line)
			}
		}
	}
	missing := func(f *fake, _ int) {
		f.event("CTRL-EVENT-NETWORK-NOT-FOUND ", "CTRL-EVENT-NETWORK-NOT-FOUND ") // of what was seen earlier
		for range missesToGiveUp {
			f.event("CTRL-EVENT-SCAN-STARTED ", "CTRL-EVENT-SCAN-RESULTS ", "CTRL-EVENT-NETWORK-NOT-FOUND ")
		}
	}
	psk, key, open := Network{SSID: "x", Passphrase: secret}, Network{SSID: "x", Passphrase: strings.Repeat("0f", 32)}, Network{SSID: "x"}
	for name, c := range map[string]struct {
		network Network
		air     string
		joined  func(*fake, int)
		reason  Reason
		words   string
	}{
		"wrong passphrase, WPA2": {psk, "", disabled("WRONG_KEY"), WrongPassphrase, "is wrong"},
		"wrong passphrase, WPA3": {psk, "", times(1, "CTRL-EVENT-AUTH-REJECT 02:00:00:00:00:00 auth_type=3 auth_transaction=2 status_code=1"), WrongPassphrase, "is wrong"},
		"not there in old results": {psk, "####\n", func(f *fake, id int) {
			times(9, "CTRL-EVENT-NETWORK-NOT-FOUND ")(f, id)
			disabled("WRONG_KEY")(f, id)
		}, WrongPassphrase, "is wrong"},
		"gave up":                  {psk, "", disabled("CONN_FAILED"), Refused, "gave up"},
		"full":                     {psk, "", times(3, "CTRL-EVENT-ASSOC-REJECT bssid=02:00:00:00:00:00 status_code=17"), Refused, "no room"},
		"later":                    {psk, "", times(3, "CTRL-EVENT-ASSOC-REJECT bssid=02:00:00:00:00:00 status_code=30"), Refused, "try later"},
		"refused":                  {open, "", times(3, "CTRL-EVENT-AUTH-REJECT 02:00:00:00:00:00 auth_type=0 auth_transaction=2 status_code=13"), Refused, "status code 13"},
		"not there":                {psk, "####\n", missing, NotFound, "not found"},
		"there and fit":            {psk, fmt.Sprintf(air, "[WPA2-PSK-CCMP][ESS]"), missing, NotFound, "not found"},
		"EAP":                      {psk, fmt.Sprintf(air, "[WPA2-EAP-CCMP][ESS]"), missing, Unsupported, "802.1X"},
		"WEP":                      {psk, fmt.Sprintf(air, "[WEP][ESS]"), missing, Unsupported, "WEP"},
		"open, passphrase given":   {psk, fmt.Sprintf(air, "[ESS]"), missing, BadNetwork, "it is open"},
		"closed, none given":       {open, fmt.Sprintf(air, "[WPA2-PSK-CCMP][ESS]"), missing, BadNetwork, "wants a passphrase"},
		"WPA3 only, key given":     {key, fmt.Sprintf(air, "[WPA2-SAE-CCMP][ESS]"), missing, BadNetwork, "instead of the key"},
		"name of 33 bytes":         {Network{SSID: strings.Repeat("x", 33)}, "", connects, BadNetwork, "33 bytes"},
		"no name":                  {Network{}, "", connects, BadNetwork, "0 bytes"},
		"short passphrase":         {Network{SSID: "x", Passphrase: "horse"}, "", connects, BadNetwork, "5 characters"},
		"passphrase with newline":  {Network{SSID: "x", Passphrase: "horsehorse\n"}, "", connects, BadNetwork, "printable ASCII"},
		"64 that are no key":       {Network{SSID: "x", Passphrase: strings.Repeat("horse---", 8)}, "", connects, BadNetwork, "64 characters"},
		"passphrase beyond ASCII":  {Network{SSID: "x", Passphrase: "horsehörse"}, "", connects, BadNetwork, "printable ASCII"},
		"another network's events": {psk, "", func(f *fake, id int) { connects(f, id+5); disabled("WRONG_KEY")(f, id) }, WrongPassphrase, "is wrong"},
	} {
		t.Run(name, func(t *testing.T) {
			f, s, _ := newFake(t, Config{Networks: []Network{{SSID: "home", Passphrase: secret}}})
			f.joined, f.air = c.joined, c.air
			run(t, s)
			err := s.Join(t.Context(), c.network)
			if !is(err, c.reason) || !strings.Contains(err.Error(), c.words) || strings.Contains(err.Error(), "horse") {
				t.Fatalf("got %v, want %d with %q", err, c.reason, c.words)
			}
			var e *Error
			if errors.As(err, &e); e.Code() != fmt.Sprintf("NET-%03d", 20+int(c.reason)) || e.Hint() == "" {
				t.Errorf("code %s, hint %q", e.Code(), e.Hint())
			}
			networks, enabled := f.state()
			if c.reason != BadNetwork && (len(networks) != 1 || !enabled[0]) {
				t.Errorf("left behind: %v, enabled %v", networks, enabled)
			}
		})
	}
}

func TestFailureOfKnownNetwork(t *testing.T) {
	f, s, events := newFake(t, Config{Networks: []Network{{SSID: "home", Passphrase: secret}}})
	run(t, s)
	await(t, events, Started)
	f.event(`CTRL-EVENT-SSID-TEMP-DISABLED id=0 ssid="home" auth_failures=1 duration=10 reason=WRONG_KEY`)
	if e := await(t, events, Failed); e.SSID != "home" || !is(e.Err, WrongPassphrase) {
		t.Errorf("%+v", e)
	}
}

func TestScan(t *testing.T) {
	f, s, _ := newFake(t, Config{})
	first := "id=0\nlevel=-70\nflags=[WPA2-PSK-CCMP][ESS]\nssid=a\n====\nid=3\nlevel=-30\nflags=[WPA2-PSK-CCMP][ESS]\nssid=a\n====\n"
	second := "id=4\nlevel=-50\nflags=[ESS]\nssid=caf\\xc3\\xa9 \\\"x\\\"\n====\nid=5\nlevel=-20\nflags=[ESS]\nssid=\n====\n####\n"
	f.answer = func(_ *fake, command string) (string, bool) {
		switch command {
		case bssCommand(0):
			return first, true
		case bssCommand(4):
			return second, true
		}
		return "", false
	}
	run(t, s)
	got, err := s.Scan(t.Context())
	want := []AccessPoint{{"a", -30, "WPA2"}, {`café "x"`, -50, "open"}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestScanFailures(t *testing.T) {
	for name, c := range map[string]struct {
		scan, status string
		event        string
		reason       Reason
	}{
		"refused":   {"FAIL\n", "wpa_state=DISCONNECTED\n", "", ScanFailed},
		"radio off": {"FAIL\n", "wpa_state=INTERFACE_DISABLED\n", "", RadioOff},
		"failed":    {"OK\n", "wpa_state=SCANNING\n", "CTRL-EVENT-SCAN-FAILED ret=-16", ScanFailed},
		"nonsense":  {"\x00\xff", "\x00\xff", "", ScanFailed},
	} {
		t.Run(name, func(t *testing.T) {
			f, s, _ := newFake(t, Config{})
			f.answer = func(f *fake, command string) (string, bool) {
				switch command {
				case "SCAN":
					if c.event != "" {
						go f.event(c.event)
					}
					return c.scan, true
				case "STATUS":
					return c.status, true
				}
				return "", false
			}
			run(t, s)
			if _, err := s.Scan(t.Context()); !is(err, c.reason) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestScanGoesOnAfterBusy(t *testing.T) {
	f, s, _ := newFake(t, Config{})
	f.air = "####\n"
	f.answer = func(f *fake, command string) (string, bool) {
		if command == "SCAN" {
			go f.event("CTRL-EVENT-SCAN-FAILED ret=-16 retry=1", "CTRL-EVENT-SCAN-RESULTS ")
			return "FAIL-BUSY\n", true
		}
		return "", false
	}
	run(t, s)
	if list, err := s.Scan(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("got %v, %v", list, err)
	}
}

// TestMisbehaviour lets the first life of the program misbehave at one command;
// the second must be as good as any.
func TestMisbehaviour(t *testing.T) {
	for name, c := range map[string]struct {
		command, answer string
		die             bool
	}{
		"dies at once":            {"ATTACH", "", true},
		"dies while told":         {"SET_NETWORK", "", true},
		"dies while asked":        {"SELECT_NETWORK", "", true},
		"will not tell":           {"ATTACH", "FAIL\n", false},
		"numbers that are none":   {"ADD_NETWORK", "many\n", false},
		"negative number":         {"ADD_NETWORK", "-1\n", false},
		"garbage":                 {"ADD_NETWORK", "\x00\xff\xfe<>", false},
		"huge answer":             {"ADD_NETWORK", strings.Repeat("1", maxAnswer+1), false},
		"refuses a setting":       {"SET_NETWORK", "FAIL\n", false},
		"cannot enable":           {"ENABLE_NETWORK", "FAIL\n", false},
		"partial answer to PING":  {"ENABLE_NETWORK", "O", false},
		"events between answers":  {"ENABLE_NETWORK", "<3>CTRL-EVENT-SCAN-RESULTS ", true},
		"dies telling its answer": {"ENABLE_NETWORK", "OK\n", true},
	} {
		t.Run(name, func(t *testing.T) {
			f, s, events := newFake(t, Config{Networks: []Network{{SSID: "home", Passphrase: secret}}})
			f.joined = connects
			f.answer = func(f *fake, command string) (string, bool) {
				if f.starts > 1 || !strings.HasPrefix(command, c.command) {
					return "", false
				}
				if c.die {
					go f.die()
				}
				return c.answer, true
			}
			run(t, s)
			for range 20 { // until the second life
				err := s.Join(t.Context(), Network{SSID: "x", Passphrase: secret})
				if err != nil && strings.Contains(err.Error(), "horse") {
					t.Fatal(err)
				}
				if err == nil && f.starts > 1 {
					e := await(t, events, Ended)
					if !is(e.Err, NoAnswer) || strings.Contains(e.Err.Error(), "horse") {
						t.Errorf("event %+v", e)
					}
					return
				}
			}
			t.Error("never joined in a second life")
		})
	}
}

// TestSilence: a program that says nothing is bounded by the context, and is
// not asked again on the same connection.
func TestSilence(t *testing.T) {
	f, s, events := newFake(t, Config{})
	f.answer = func(f *fake, command string) (string, bool) {
		return "", command == "SCAN" && f.starts == 1
	}
	f.air = "####\n"
	run(t, s)
	await(t, events, Started)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := s.Scan(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if e := await(t, events, Ended); !is(e.Err, NoAnswer) {
		t.Errorf("event %+v", e)
	}
	if _, err := s.Scan(t.Context()); err != nil {
		t.Errorf("after the restart: %v", err)
	}
}

// TestKeptAfterDeath: what was joined is told to the next life.
func TestKeptAfterDeath(t *testing.T) {
	f, s, events := newFake(t, Config{Networks: []Network{{SSID: "home"}, {SSID: "x", Passphrase: "old passphrase"}}})
	f.joined = connects
	run(t, s)
	if err := s.Join(t.Context(), Network{SSID: "x", Passphrase: secret}); err != nil {
		t.Fatal(err)
	}
	if networks, _ := f.state(); len(networks) != 2 {
		t.Errorf("the old entry of the name is still there: %v", networks)
	}
	await(t, events, Started)
	f.die()
	await(t, events, Started)
	if _, err := s.Status(t.Context()); err != nil { // waits until all has been told
		t.Fatal(err)
	}
	networks, enabled := f.state()
	if len(networks) != 2 || networks[0]["ssid"] != "78" || !strings.Contains(networks[0]["psk"], "horse") || networks[0]["priority"] != "2" || !enabled[0] || !enabled[1] {
		t.Errorf("networks %v, enabled %v", networks, enabled)
	}
}

func TestFloodOfEvents(t *testing.T) {
	f, s, events := newFake(t, Config{})
	f.joined = func(f *fake, id int) {
		for range 2000 {
			f.event(`CTRL-EVENT-BSS-ADDED 1 02:00:00:00:00:00`, "garbage", "", strings.Repeat("x", 5000))
		}
		f.event(`CTRL-EVENT-SSID-TEMP-DISABLED id=0 reason=WRONG_KEY`)
	}
	run(t, s)
	await(t, events, Started)
	if err := s.Join(t.Context(), Network{SSID: "x", Passphrase: secret}); !is(err, WrongPassphrase) {
		t.Errorf("got %v", err)
	}
}

func TestCancel(t *testing.T) {
	f, s, events := newFake(t, Config{})
	ctx, cancel := context.WithCancel(t.Context())
	f.joined = func(*fake, int) { cancel() } // and says nothing
	run(t, s)
	await(t, events, Started)
	if err := s.Join(ctx, Network{SSID: "x"}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if networks, _ := f.state(); len(networks) != 0 {
		t.Errorf("left behind: %v", networks)
	}
	if f.starts != 1 {
		t.Error("the program was restarted")
	}
}

func TestNotRunning(t *testing.T) {
	s := New(Config{Interface: "wlan0"})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := s.Scan(ctx); err == nil {
		t.Error("a scan without Run")
	}
	if err := s.Join(ctx, Network{SSID: "x"}); err == nil {
		t.Error("a join without Run")
	}
}

func TestRunRefusals(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct {
		change func(*Config)
		reason Reason
	}{
		"no program":       {func(c *Config) { c.Program = dir + "/none" }, ProgramMissing},
		"not a program":    {func(c *Config) { c.Program = dir }, ProgramMissing},
		"no interface":     {func(c *Config) { c.Interface = "" }, NoAnswer},
		"option":           {func(c *Config) { c.Interface = "-B" }, NoAnswer},
		"path":             {func(c *Config) { c.Interface = "../x" }, NoAnswer},
		"long interface":   {func(c *Config) { c.Interface = "wlan567890123456" }, NoAnswer},
		"spaces":           {func(c *Config) { c.Interface = "wlan0 -B" }, NoAnswer},
		"relative folder":  {func(c *Config) { c.RunDir = "run" }, NoAnswer},
		"folder with line": {func(c *Config) { c.RunDir = dir + "/a\ncountry=US" }, NoAnswer},
		"deep folder":      {func(c *Config) { c.RunDir = dir + strings.Repeat("/x", 60) }, NoAnswer},
		"file as folder":   {func(c *Config) { c.RunDir = "/dev/null/x" }, NoAnswer},
		"country":          {func(c *Config) { c.Country = "de" }, NoAnswer},
		"country, line":    {func(c *Config) { c.Country = "D\n" }, NoAnswer},
		"bad network":      {func(c *Config) { c.Networks = []Network{{SSID: "x", Passphrase: "horse"}} }, BadNetwork},
	} {
		cfg := Config{Interface: "wlan0", RunDir: filepath.Join(dir, "run"), Program: "/bin/false"}
		c.change(&cfg)
		s := New(cfg)
		if err := s.Run(t.Context()); !is(err, c.reason) {
			t.Errorf("%s: got %v", name, err)
		}
		if c.reason != NoAnswer {
			if _, err := s.Scan(t.Context()); !is(err, c.reason) {
				t.Errorf("%s: scan says %v", name, err)
			}
		}
	}
}

// TestRealProcess uses os/exec: a program that ends at once, with words.
func TestRealProcess(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "program")
	if err := os.WriteFile(program, []byte("#!/bin/sh\necho 'wlan0: CTRL-EVENT-X'\necho no such card >&2\nexit 3\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	events := make(chan Event, 10)
	s := New(Config{Interface: "wlan0", RunDir: filepath.Join(dir, "run"), Program: program, Report: func(e Event) { events <- e }})
	stop := run(t, s)
	e := await(t, events, Ended)
	if !is(e.Err, NoAnswer) || !strings.Contains(e.Err.Error(), "exit status 3: no such card") {
		t.Errorf("event %+v", e)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// TestDeaf: a program that never makes its socket and ignores being told to end
// is killed.
func TestDeaf(t *testing.T) {
	program := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(program, []byte("#!/bin/sh\nexec sleep 1000\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	s := New(Config{Interface: "wlan0", RunDir: filepath.Join(t.TempDir(), "run"), Program: program})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := s.Run(ctx); err != nil {
		t.Error(err)
	}
}

// TestHangs: a program that answers nothing any more, or does not do what it says,
// is killed by whoever started it, and another one is started.
func TestHangs(t *testing.T) {
	for name, silent := range map[string]bool{"silent": true, "only says that it ends": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, s, events := newFake(t, Config{})
			f.hangs = true
			stop := run(t, s)
			await(t, events, Started)
			if silent {
				f.mu.Lock()
				f.answer = func(*fake, string) (string, bool) { return "", true }
				f.mu.Unlock()
			}
			if err := stop(); err != nil {
				t.Error(err)
			}
			f.mu.Lock()
			defer f.mu.Unlock()
			if f.kills != 1 {
				t.Errorf("killed %d times", f.kills)
			}
		})
	}
}

func TestStatus(t *testing.T) {
	f, s, _ := newFake(t, Config{})
	run(t, s)
	st, err := s.Status(t.Context())
	if want := (Status{true, "a\xff\"", "02:00:00:00:00:01", "SAE", 2412}); err != nil || st != want {
		t.Errorf("got %+v, %v", st, err)
	}
	f.mu.Lock()
	f.answer = func(*fake, string) (string, bool) { return "ssid=\\q\n", true }
	f.mu.Unlock()
	if _, err := s.Status(t.Context()); !is(err, NoAnswer) {
		t.Errorf("got %v", err)
	}
}

// TestProbes: what was healthy at first stops answering, or stops telling.
func TestProbes(t *testing.T) {
	for name, answers := range map[string]map[string]string{
		"no answer": {"PING": ""}, "nonsense": {"PING": "PO"}, "forgot who listens": {"LEVEL": "FAIL\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, s, events := newFake(t, Config{})
			s.pings = 2 * time.Second // for the answer of the healthy one too
			f.answer = func(f *fake, command string) (string, bool) {
				verb, _, _ := strings.Cut(command, " ")
				answer, ok := answers[verb]
				return answer, ok && f.starts == 1
			}
			run(t, s)
			await(t, events, Started)
			if e := await(t, events, Ended); !is(e.Err, NoAnswer) {
				t.Errorf("event %+v", e)
			}
			await(t, events, Started)
			for len(f.said("LEVEL")) < 2 || len(f.said("PING")) < 3 {
				time.Sleep(time.Millisecond)
			}
			select {
			case e := <-events:
				t.Errorf("the healthy one: %+v", e)
			default:
			}
		})
	}
}

func TestPause(t *testing.T) {
	if pause(0) != firstWait || pause(2) != 4*firstWait || pause(1000) != lastWait {
		t.Error(pause(0), pause(2), pause(1000))
	}
}

func TestStaleFiles(t *testing.T) {
	f, s, events := newFake(t, Config{})
	if err := os.MkdirAll(f.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"wlan0", ".wlan0.cmd", ".wlan0.ev"} {
		if err := os.WriteFile(filepath.Join(f.dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	stop := run(t, s)
	await(t, events, Started)
	if info, err := os.Stat(f.dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder has mode %v, %v", info, err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(filepath.Join(f.dir, ".wlan0.cmd")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a socket was left: %v", err)
	}
}
