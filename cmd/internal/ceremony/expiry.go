package ceremony

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/phasebased/phase/blob"
)

// warnBefore is how long before its end a document is reported, unless --warn
// says otherwise: as long as people need to sign its successor.
var warnBefore = map[string]time.Duration{"root": 60 * day, "manifest": 14 * day, "pointer": 2 * day}

// How much time a document has left.
const (
	stateOK      = "ok"
	stateSoon    = "soon"
	stateExpired = "expired"
	stateBroken  = "broken" // it cannot be read
)

// life is one document and how long it has left. Its JSON is what machines
// read.
type life struct {
	State   string    `json:"state"` // ok, soon, expired, broken
	Kind    string    `json:"kind"`
	File    string    `json:"file"`
	Version int64     `json:"version"` // of a pointer: that of its manifest
	Expires time.Time `json:"expires_at"`
	Notes   []string  `json:"notes"`

	doc document
}

func newCheckExpiry(cfg Config) *cobra.Command {
	var warn, at, format string
	var quiet bool
	cmd := &cobra.Command{
		Use: "check-expiry FILE|DIR…", Short: "Say which documents expire soon; made for cron", Args: arguments(1, 0, "a file or folder"),
		Long: `Looks at roots, manifests and pointers, in folders and those below, and says how
long each has left. Exit status 1 means that something has expired, or cannot be
read although its name is that of a document, or that something will expire within the warning time (60 days for a root, 14 for a manifest, 2 for a pointer,
or what --warn says), or that nothing was found. Signatures are not checked:
phase-verify and publish do that. Of several roots beside each other only the
newest counts, as on a machine.`,
		Example: `  phase release check-expiry published
  phase release check-expiry --quiet published    # for cron: silent while all is well`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkFormat(format); err != nil {
				return err
			}
			now, err := parseAt(at, cfg.today())
			if err != nil {
				return err
			}
			before, err := parseWarn(warn)
			if err != nil {
				return err
			}
			list, err := lives(args, now, before)
			if err != nil {
				return err
			}
			return reportLives(cmd.OutOrStdout(), list, now, format, quiet)
		},
	}
	cmd.Flags().StringVar(&warn, "warn", "", "report what expires within this time, whatever it is, for instance 14d")
	cmd.Flags().StringVar(&at, "at", "", "judge as of this time instead of now, for instance 30d or 2027-03-01")
	cmd.Flags().StringVarP(&format, "format", "f", "text", "text or json")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "show only what needs attention")
	return cmd
}

func parseAt(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return now, nil
	}
	at, err := parseMoment(s, now)
	if err != nil {
		return at, usage("--at: %w", err)
	}
	return at, nil
}

func parseWarn(s string) (func(kind string) time.Duration, error) {
	if s == "" {
		return func(kind string) time.Duration { return warnBefore[kind] }, nil
	}
	before, err := parseSpan(s)
	if err != nil {
		return nil, usage("--warn: %w", err)
	}
	return func(string) time.Duration { return before }, nil
}

// lives finds the documents and judges them. A file that a person named must
// be one; what lies in a folder may be anything.
func lives(paths []string, now time.Time, before func(kind string) time.Duration) ([]life, error) {
	var docs []document
	var broken []life
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			d, err := openDocument(path)
			if err != nil {
				return nil, err
			}
			docs = append(docs, d)
			continue
		}
		found, unreadable, err := documentsBelow(path)
		if err != nil {
			return nil, err
		}
		docs, broken = append(docs, found...), append(broken, unreadable...)
	}
	docs = newestRoots(docs)
	if len(docs)+len(broken) == 0 {
		return nil, refuse("Name the published folder.", "no root, manifest or pointer in %s", strings.Join(paths, ", "))
	}
	list := make([]life, len(docs))
	for i, d := range docs {
		list[i] = lifeOf(d)
		list[i].State = stateAt(list[i].Expires, now, before(list[i].Kind))
	}
	connect(list)
	slices.SortStableFunc(list, func(a, b life) int { return a.Expires.Compare(b.Expires) })
	return append(broken, list...), nil
}

// published fits the names under which machines look for documents.
var published = regexp.MustCompile(`^(?:[1-9][0-9]*\.)?(manifest|pointer|root)\.json$`)

// documentsBelow reads the documents of a folder and those below, and lists what
// should be one and is not, links to files among them. Blobs are passed over: they are copies, and of old
// releases too.
func documentsBelow(folder string) (docs []document, broken []life, err error) {
	err = filepath.WalkDir(folder, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && e.Name() == "blobs":
			return filepath.SkipDir
		case e.IsDir() || filepath.Ext(path) != ".json" || leadsToFolder(path):
			return nil
		}
		d, err := openDocument(path)
		if err == nil {
			docs = append(docs, d)
		} else if kind := published.FindStringSubmatch(e.Name()); kind != nil {
			broken = append(broken, life{State: stateBroken, Kind: kind[1], File: path, Notes: []string{err.Error()}})
		}
		return nil
	})
	return docs, append(broken, pointless(docs, broken)...), err
}

// leadsToFolder reports whether path is a link to a folder: those are not
// followed, as they may lead in circles, but a web server follows links to files.
func leadsToFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// pointless lists the pointers that are missing in published folders, those with
// a manifest.json and a root.json: without one, no machine finds the release.
func pointless(docs []document, broken []life) (list []life) {
	there := map[string]bool{}
	for _, d := range docs {
		there[d.file] = true
	}
	for _, l := range broken {
		there[l.File] = true
	}
	for _, d := range docs {
		beside := func(name string) string { return filepath.Join(filepath.Dir(d.file), name) }
		if filepath.Base(d.file) == "manifest.json" && there[beside("root.json")] && !there[beside("pointer.json")] {
			list = append(list, life{State: stateBroken, Kind: "pointer", File: beside("pointer.json"), Notes: []string{"it is not there"}})
		}
	}
	return list
}

// newestRoots drops the roots that have a successor in the same folder, and
// the second name of the same root. A draft succeeds nothing: machines do not
// take it yet.
func newestRoots(docs []document) []document {
	newest := map[string]document{}
	version := func(d document) int64 { return d.draft.Spec().Version }
	for _, d := range docs {
		if d.draft.Object() != "root" || isDraft(d.draft) {
			continue
		}
		dir := filepath.Dir(d.file)
		if best, ok := newest[dir]; !ok || version(d) > version(best) ||
			version(d) == version(best) && filepath.Base(d.file) == "root.json" {
			newest[dir] = d
		}
	}
	return slices.DeleteFunc(docs, func(d document) bool {
		best, ok := newest[filepath.Dir(d.file)]
		return d.draft.Object() == "root" && ok && !isDraft(d.draft) && best.file != d.file
	})
}

func lifeOf(d document) life {
	l := life{Kind: d.draft.Object(), File: d.file, Notes: []string{}, doc: d}
	switch l.Kind {
	case "root":
		spec := d.draft.Spec()
		l.Version, l.Expires = spec.Version, spec.Expires
		if isDraft(d.draft) {
			l.Notes = append(l.Notes, "a draft: "+plural(int64(rootTallies(d.draft, nil)[0].missing()), "signature")+" missing")
		}
	case "manifest":
		m := d.draft.Manifest()
		l.Version, l.Expires = m.ManifestVersion, m.ExpiresAt
	default:
		p := d.draft.Pointer()
		l.Version, l.Expires = p.ManifestVersion, p.ExpiresAt
	}
	return l
}

func stateAt(expires, now time.Time, before time.Duration) string {
	switch {
	case !now.Before(expires):
		return stateExpired
	case !now.Before(expires.Add(-before)):
		return stateSoon
	}
	return stateOK
}

// connect says of each pointer what it needs and what ends before it.
func connect(list []life) {
	for i, pointer := range list {
		if pointer.Kind != "pointer" {
			continue
		}
		p := pointer.doc.draft.Pointer()
		for _, other := range list {
			beside := filepath.Dir(other.File) == filepath.Dir(pointer.File)
			if isDraft(other.doc.draft) {
				continue
			}
			needed := other.Kind == "manifest" && blob.Of(other.doc.raw) == p.ManifestHash || other.Kind == "root" && beside
			if needed && other.Expires.Before(p.ExpiresAt) {
				list[i].Notes = append(list[i].Notes, fmt.Sprintf("its %s ends before it", other.Kind))
			}
			if other.Kind == "manifest" && beside && blob.Of(other.doc.raw) != p.ManifestHash {
				list[i].Notes = append(list[i].Notes, "it points to another manifest than the one beside it")
			}
			if other.Kind == "root" && beside && other.Version < p.RootVersion {
				list[i].Notes = append(list[i].Notes, fmt.Sprintf("it was made under root version %d, which is not beside it", p.RootVersion))
			}
		}
	}
}

func reportLives(out io.Writer, list []life, now time.Time, format string, quiet bool) error {
	bad := func(l life) bool { return l.State != stateOK }
	shown := list
	if quiet {
		shown = slices.DeleteFunc(slices.Clone(list), func(l life) bool { return !bad(l) && len(l.Notes) == 0 })
	}
	var err error
	if format == "json" {
		err = writeJSON(out, map[string]any{"at": now, "documents": append([]life{}, shown...)})
	} else if len(shown) > 0 {
		rows := []string{"STATE\tKIND\tVERSION\tEXPIRES\t\tFILE"}
		for _, l := range shown {
			ends := moment(l.Expires) + "\t" + until(l.Expires, now)
			if l.State == stateBroken {
				ends = "-\t"
			}
			rows = append(rows, fmt.Sprintf("%s\t%s\t%d\t%s\t%s", l.State, l.Kind, l.Version, ends, l.File))
			for _, note := range l.Notes {
				rows = append(rows, "\t\t\tnote: "+note)
			}
		}
		err = table(out, rows)
	}
	if err == nil && slices.ContainsFunc(list, bad) {
		return ErrReported
	}
	return err
}
