package ceremony

import (
	"bytes"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/strictjson"
	"github.com/phasebased/phase/internal/term"
	"github.com/phasebased/phase/internal/translog"
	"github.com/phasebased/phase/manifest"
)

// watching is somebody who looks at a whole log.
type watching struct {
	log, state, format string
	first              bool
}

func (w *watching) flags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&w.log, "log", "", "vkey of the log, or `file` with it (default: the one in DIR, which says nothing about whose log it is)")
	flags.StringVar(&w.state, "state", "", "`file` that remembers what was seen, so that a log that was rewritten is noticed")
	flags.BoolVar(&w.first, "first", false, "begin the --state file")
	flags.StringVarP(&w.format, "format", "f", "text", "text or json")
}

// watch reads all of the log in dir and shows it to visit. With a memory it
// also compares what it sees with what was seen, seen entries of it.
func (w *watching) watch(cmd *cobra.Command, dir string, visit func(index int64, entry []byte) error) (r *translog.Reader, seen int64, err error) {
	if w.state == "" {
		if w.first {
			return nil, 0, needFlag(cmd, "--state", "the file to begin")
		}
		key, err := logKey(w.log)
		if err != nil {
			return nil, 0, err
		}
		if r, err = translog.Read(dir, key); err != nil {
			return nil, 0, err
		}
		return r, 0, r.Check(visit)
	}
	memory, err := memoryOf(cmd, w.state, w.log, w.first)
	if err != nil {
		return nil, 0, err
	}
	r, err = memory.Observe(dir, func(r *translog.Reader, before int64) error {
		seen = before
		return r.Check(visit)
	})
	return r, seen, err
}

// whose says what the check has rested on.
func (w *watching) whose() string {
	if w.log != "" || w.state != "" {
		return "under the key that you named"
	}
	return "under the key that lies in the folder; name the one you trust with --log"
}

// checkedJSON is what machines read of a log that was checked.
type checkedJSON struct {
	Cosigners []string `json:"cosigners"`
	Entries   int64    `json:"entries"`
	Key       string   `json:"vkey"`
	New       int64    `json:"new"` // since --state was written; all without it
	Origin    string   `json:"origin"`
	Root      string   `json:"root"`
	Trusted   bool     `json:"trusted_key"` // the key came from --log or --state
}

func newLogCheck() *cobra.Command {
	var w watching
	cmd := &cobra.Command{
		Use: "check DIR", Short: "Compute the whole log anew and compare every file with it", Args: arguments(1, 1, "the folder of the log"),
		Long: `Reads every entry, computes the tree, and compares all tiles, the checkpoint and
the cosigned checkpoints with it. With --state it also compares with what was seen
the last time: entries that were taken back or changed cannot be hidden from it.`,
		Example: `  phase release log check log --log log.vkey --state monitor.state`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkFormat(w.format); err != nil {
				return err
			}
			r, seen, err := w.watch(cmd, args[0], nil)
			if err != nil {
				return err
			}
			return w.report(cmd, args[0], r, seen)
		},
	}
	w.flags(cmd)
	return cmd
}

func (w *watching) report(cmd *cobra.Command, dir string, r *translog.Reader, seen int64) error {
	list, err := r.Cosigners()
	if err != nil {
		return err
	}
	names := []string{}
	for _, c := range list {
		names = append(names, c.String())
	}
	tree := r.Checkpoint()
	if w.format == "json" {
		return writeJSON(cmd.OutOrStdout(), checkedJSON{names, tree.Size, r.Key().String(), tree.Size - seen,
			tree.Origin, tree.Root.String(), w.log != "" || w.state != ""})
	}
	rows := []string{
		fmt.Sprintf("%s\tthe log %s, whole, %s", dir, tree.Origin, w.whose()),
		fmt.Sprintf("entries\t%d", tree.Size),
		"root\t" + tree.Root.String(),
	}
	if w.state != "" {
		rows = append(rows, fmt.Sprintf("new\t%d since the last time", tree.Size-seen))
	}
	for _, name := range names {
		rows = append(rows, "line by\t"+term.Clean(name)+" (its key is not checked here)")
	}
	return table(cmd.OutOrStdout(), rows)
}

// listed is one line of the monitor's list. Its JSON is what machines read.
type listed struct {
	Arch     string `json:"arch,omitempty"`
	Channel  string `json:"channel,omitempty"`
	Conflict string `json:"conflict,omitempty"` // why somebody has to look at it
	Hash     string `json:"manifest_hash,omitempty"`
	Index    int64  `json:"index"`
	New      bool   `json:"new"` // not there when --state was written
	Version  int64  `json:"manifest_version,omitempty"`
}

// loggedManifest has the members of manifest.LogEntry.
type loggedManifest struct {
	Arch            string      `json:"arch"`
	Channel         string      `json:"channel"`
	ManifestHash    blob.Digest `json:"manifest_hash"`
	ManifestVersion int64       `json:"manifest_version"`
	Product         string      `json:"product"`
}

// lister collects entries and compares releases that bear the same number.
type lister struct {
	list  []listed
	first map[string]listed // by channel, arch and version
	odd   int
}

func newLogList() *cobra.Command {
	var w watching
	cmd := &cobra.Command{
		Use: "list DIR", Short: "As a monitor: list every release in the log, and flag what should not be", Args: arguments(1, 1, "the folder of the log"),
		Long: `Checks the log as "check" does and lists its entries. Two different manifests with
the same channel, architecture and version are flagged, and so is what is no release
at all: the exit status is 1 then. Whoever signs releases should run this often, and
miss none and find none that they did not sign.`,
		Example: `  phase release log list log --state monitor.state`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkFormat(w.format); err != nil {
				return err
			}
			l := lister{first: map[string]listed{}}
			_, seen, err := w.watch(cmd, args[0], l.visit)
			if err != nil {
				return err
			}
			return l.write(cmd, w, seen)
		},
	}
	w.flags(cmd)
	return cmd
}

func (l *lister) visit(index int64, raw []byte) error {
	e := readEntry(raw)
	e.Index = index
	if e.Conflict == "" {
		id := fmt.Sprintf("%q %q %d", e.Channel, e.Arch, e.Version)
		if other, ok := l.first[id]; ok {
			e.Conflict = fmt.Sprintf("entry %d is another manifest of this release", other.Index)
		} else {
			l.first[id] = e
		}
	}
	if e.Conflict != "" {
		l.odd++
	}
	l.list = append(l.list, e)
	return nil
}

// readEntry reads what manifest.LogEntry wrote, and nothing else.
func readEntry(raw []byte) listed {
	var m loggedManifest
	err := strictjson.Unmarshal(raw, &m, strictjson.Limits{Bytes: 4096, Depth: 2, RejectUnknown: true})
	again := manifest.LogEntry(manifest.Manifest{Arch: m.Arch, Channel: m.Channel, ManifestVersion: m.ManifestVersion}, m.ManifestHash)
	if err != nil || !bytes.Equal(raw, again) {
		return listed{Conflict: "this is no release"}
	}
	return listed{Arch: m.Arch, Channel: m.Channel, Hash: m.ManifestHash.String(), Version: m.ManifestVersion}
}

func (l *lister) write(cmd *cobra.Command, w watching, seen int64) error {
	rows := []string{"entry\tchannel\tarch\trelease\tmanifest"}
	for i := range l.list {
		e := &l.list[i]
		e.New = w.state == "" || e.Index >= seen
		mark := ""
		if w.state != "" && e.New {
			mark = "\tnew"
		}
		if e.Conflict != "" {
			mark += "\t! " + e.Conflict
		}
		rows = append(rows, fmt.Sprintf("%d\t%s\t%s\t%d\t%s%s", e.Index, term.Clean(e.Channel), term.Clean(e.Arch), e.Version, e.Hash, mark))
	}
	if w.format == "json" {
		if l.list == nil {
			l.list = []listed{}
		}
		if err := writeJSON(cmd.OutOrStdout(), l.list); err != nil {
			return err
		}
	} else if err := table(cmd.OutOrStdout(), rows); err != nil {
		return err
	}
	if l.odd == 0 {
		return nil
	}
	if w.format == "json" {
		return ErrReported
	}
	return refuse("Ask the log's keeper and those who sign releases what this is; keep a copy of the log.",
		"%d of the %d entries should not be there", l.odd, len(l.list))
}
