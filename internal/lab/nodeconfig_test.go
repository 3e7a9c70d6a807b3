package lab

import "testing"

// TestNodeConfig: the hello job is run unless the configuration says what to run.
func TestNodeConfig(t *testing.T) {
	for given, want := range map[string]string{
		"":                                    `{"boot_jobs":["/usr/share/phase/jobs/hello.json"]}`,
		`{"serve_port": 0}`:                   `{"boot_jobs":["/usr/share/phase/jobs/hello.json"],"serve_port":0}`,
		`{"boot_jobs": [], "serve_port": 80}`: `{"boot_jobs":[],"serve_port":80}`,
	} {
		var cfg Config
		if given != "" {
			cfg.NodeConfig = []byte(given)
		}
		if got, err := cfg.nodeConfig(); err != nil || string(got) != want {
			t.Errorf("%s: %s, %v", given, got, err)
		}
	}
	for _, bad := range []string{"{", "[]", `{"a":1,"a":2}`, "null"} {
		if got, err := (Config{NodeConfig: []byte(bad)}).nodeConfig(); err == nil {
			t.Errorf("%s: %s", bad, got)
		}
	}
}
