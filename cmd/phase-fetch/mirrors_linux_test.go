package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/phasebased/phase/internal/nettest"
	"github.com/phasebased/phase/test/peers"
)

// TestMirrorsPage: mirrors that are set up as docs/mirrors.md says give a release to
// who asks as that page says; and it is right about who can give parts.
func TestMirrorsPage(t *testing.T) {
	nettest.Require(t, "curl", "python3")
	raw, err := os.ReadFile("../../docs/mirrors.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(raw)
	for name, m := range map[string]struct {
		start  func(dir string) string
		status string
	}{
		"nginx": {func(dir string) string { return startNginx(t, blockOf(t, page, "nginx"), dir) }, "206 Partial Content"},
		"python": {func(dir string) string {
			s, err := peers.Python(t.Context(), dir)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(s.Stop)
			return s.URL
		}, "200 OK"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := mirrored(t)
			url := m.start(filepath.Join(dir, "folder"))
			ask := strings.Fields(strings.ReplaceAll(lineOf(t, page, "curl -fsS -o"), "http://localhost:8080", url))
			head, err := run(t, dir, ask)
			if err != nil || !strings.Contains(string(head), m.status) {
				t.Errorf("%s: %v: %s", ask, err, head)
			}
			get := strings.Fields(strings.ReplaceAll(lineOf(t, page, "phase-fetch"), "http://localhost:8080", url))
			out, err := run(t, dir, get)
			var result struct {
				Artifacts []struct {
					Size    int64
					Sources []struct {
						Bytes   int64
						Verdict string
					}
				}
			}
			if err := errors.Join(err, json.Unmarshal(out, &result)); err != nil || len(result.Artifacts) != 3 {
				t.Fatalf("%s: %v: %s", get, err, out)
			}
			for _, a := range result.Artifacts {
				if len(a.Sources) != 1 || a.Sources[0].Verdict != "good" || a.Sources[0].Bytes != a.Size {
					t.Errorf("%+v", a)
				}
			}
			if got, err := os.ReadFile(filepath.Join(dir, "check", "rootfs")); err != nil || !bytes.Equal(got, big) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
	}
}

// mirrored is a folder with the files that the page names, and a mirror's in folder.
func mirrored(t *testing.T) string {
	t.Helper()
	url, bigManifest := served(t)
	dir := t.TempDir()
	kernel := filepath.Join(dir, "folder", "stable", "x86_64", "kernel")
	err := errors.Join(writeFixtures(dir, url), writeBig(dir, bigManifest),
		os.Rename(filepath.Join(dir, "m-big.json"), filepath.Join(dir, "manifest.json")),
		os.Rename(filepath.Join(dir, "key"), filepath.Join(dir, "root.json")),
		os.MkdirAll(filepath.Dir(kernel), 0o755), os.WriteFile(kernel, contents["kernel"], 0o644))
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func run(t *testing.T, dir string, args []string) ([]byte, error) {
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	cmd.Dir = dir
	return cmd.Output()
}

// startNginx serves dir as the page's configuration says, on a socket that it is given
// in the way in which an nginx gives its sockets to its successor.
func startNginx(t *testing.T, server, dir string) (url string) {
	t.Helper()
	program, err := peers.FindNginx(t.Context())
	if err != nil {
		nettest.Lacking(t, "PHASE_REQUIRE_TOOLS", err.Error())
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	socket, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	state := t.TempDir()
	for old, new := range map[string]string{"listen 80;": "listen " + l.Addr().String() + ";", "root /srv/phase;": `root "` + dir + `";`} {
		if strings.Count(server, old) != 1 {
			t.Fatalf("the page's configuration has no %q", old)
		}
		server = strings.Replace(server, old, new, 1)
	}
	user := ""
	if os.Geteuid() == 0 {
		user = "user root;\n" // nobody else may look into a test's folder
	}
	temp := ""
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		temp += fmt.Sprintf("%s_temp_path %s;\n", kind, filepath.Join(state, kind))
	}
	conf := filepath.Join(state, "nginx.conf")
	text := user + "daemon off;\npid " + state + "/pid;\nevents {}\nhttp {\naccess_log off;\n" + temp + server + "}\n"
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, program, "-p", state, "-c", conf, "-e", "stderr")
	cmd.ExtraFiles, cmd.Env, cmd.Stderr = []*os.File{socket}, append(os.Environ(), "NGINX=3;"), t.Output()
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // it was told to end
	})
	return "http://" + l.Addr().String()
}

// blockOf is the page's only block of a language.
func blockOf(t *testing.T, page, language string) string {
	t.Helper()
	found := regexp.MustCompile("(?s)```"+language+"\n(.*?)```").FindAllStringSubmatch(page, -1)
	if len(found) != 1 {
		t.Fatalf("%d blocks of %s", len(found), language)
	}
	return found[0][1]
}

// lineOf is the only line of the page's commands that begins so.
func lineOf(t *testing.T, page, begin string) string {
	t.Helper()
	found := regexp.MustCompile("(?m)^"+regexp.QuoteMeta(begin)+".*$").FindAllString(page, -1)
	if len(found) != 1 {
		t.Fatalf("%d lines begin with %q", len(found), begin)
	}
	return found[0]
}
