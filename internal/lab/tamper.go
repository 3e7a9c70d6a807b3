package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/phasebased/phase/internal/release"
	"github.com/phasebased/phase/internal/timeline"
)

// Tampers are the attacks that Publish can stage, each on what a stranger
// could reach: files on a provider, or keys that are not the publisher's.
func Tampers() []string { return []string{"kernel", "manifest", "pointer", "hello"} }

// Publish signs and lays out a release, as an attacker would have it if tamper
// names one of Tampers; "" is the honest release.
//
//   - kernel: a byte of the kernel changes on the provider; see Rot.
//   - manifest: the manifest names another kernel and is signed by strangers;
//     the pointer is genuine, as if the online key were stolen.
//   - pointer: everything below it is genuine, the pointer is a stranger's.
//   - hello: a byte of the hello job's module does.
func (l *Lab) Publish(dir string, r release.Release, tamper string) (*release.Published, error) {
	keys, root := *l.Keys, l.Root
	switch tamper {
	case "", "kernel", "hello":
	case "manifest", "pointer":
		stranger, err := release.NewKeys()
		if err != nil {
			return nil, err
		}
		if tamper == "manifest" {
			keys.Targets = stranger.Targets
			break
		}
		// The provider is a stranger's too: it believes in its own root.
		keys.Root, keys.Timestamp = stranger.Root, stranger.Timestamp
		if root, err = keys.RootFile(time.Now().AddDate(1, 0, 0)); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("cannot tamper with %q; choose one of %s", tamper, strings.Join(Tampers(), ", "))
	}
	published, err := release.Publish(dir, r, &keys, root)
	if err != nil {
		return nil, err
	}
	switch tamper {
	case "kernel":
		l.rot.Store(dir, []string{filepath.Join(published.Dir, "kernel"), release.BlobPath(dir, published.Blobs["kernel"])})
	case "hello":
		l.rot.Store(dir, []string{release.BlobPath(dir, published.Blobs[filepath.Base(l.Hello)])})
	}
	return published, nil
}

// Rot changes what Publish was told to tamper with, once. It comes when a provider
// has looked at the folder and serves it, as Serve does it: one that finds a file
// changed when it looks does not serve it.
func (l *Lab) Rot(folder string) error {
	paths, ok := l.rot.LoadAndDelete(folder)
	if !ok {
		return nil
	}
	return changeByte(paths.([]string)...)
}

// refusals are the codes with which a machine must refuse each of Tampers.
var refusals = map[string]string{
	"kernel": "FETCH-002", "manifest": "VFY-004", "pointer": "VFY-004", "hello": "FETCH-002",
}

// CheckRefusal reports why an outcome is not the refusal that a tampered release
// deserves: another failure proves nothing, and neither does one that came after
// the tampered part was used.
func CheckRefusal(tamper string, o *Outcome) error {
	if o.Failure == nil {
		return fmt.Errorf("the machine did NOT refuse the tampered %s", tamper)
	}
	if want := refusals[tamper]; o.Failure.Code != want {
		return fmt.Errorf("the machine stopped for another reason than the tampered %s (%s, not %s): %s", tamper, o.Failure.Code, want, o.Failure.Text)
	}
	if tamper == "hello" {
		return nil // the system is genuine; only its first job is not
	}
	return CheckSeedStopped(o)
}

// CheckSeedStopped reports whether anything ran after the seed.
func CheckSeedStopped(o *Outcome) error {
	for _, event := range o.Events {
		if strings.HasPrefix(event, timeline.KernelNode+"/") || event == "seed/"+timeline.EventHandover {
			return fmt.Errorf("after the refusal there was the event %s", event)
		}
	}
	return nil
}

// changeByte changes one byte in the middle of each file, and nothing by which one
// could tell without reading it.
func changeByte(paths ...string) error {
	var seen []fs.FileInfo
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(seen, func(other fs.FileInfo) bool { return os.SameFile(info, other) }) {
			continue
		}
		seen = append(seen, info)
		if err := errors.Join(flip(path, info.Size()/2), os.Chtimes(path, info.ModTime(), info.ModTime())); err != nil {
			return err
		}
	}
	return nil
}

func flip(path string, at int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		return err
	}
	b[0] ^= 1
	_, err = f.WriteAt(b, at)
	return err
}
