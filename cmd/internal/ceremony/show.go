package ceremony

import (
	"crypto/ed25519"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/dsse"
	"github.com/phasebased/phase/internal/release"
	"github.com/phasebased/phase/internal/strictjson"
	"github.com/phasebased/phase/internal/term"
	"github.com/phasebased/phase/manifest"
)

// table writes rows whose cells are separated by tabs in columns. Nothing that
// a document or the name of a file says moves the cursor or hides another row.
func table(out io.Writer, rows []string) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		cells := strings.Split(row, "\t")
		for i, cell := range cells {
			cells[i] = term.Clean(cell)
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	return w.Flush()
}

// spoken splits a digest into groups that people can read to each other.
func spoken(d blob.Digest) []string {
	var lines []string
	for half := range slices.Chunk([]byte(d.Hex()), 32) {
		var groups []string
		for group := range slices.Chunk(half, 4) {
			groups = append(groups, string(group))
		}
		lines = append(lines, strings.Join(groups, " "))
	}
	return lines
}

// digestRows shows what the signers compare.
func digestRows(d *manifest.Draft) []string {
	return spokenRows("digest", d.Digest())
}

// spokenRows is a digest as people read it to each other.
func spokenRows(name string, d blob.Digest) []string {
	lines := spoken(d)
	return []string{name + "\t" + lines[0], "\t" + lines[1]}
}

// role is a set of keys in a root and what people call it.
type role struct {
	name string // "root", "targets", "channel testing"
	keys manifest.RoleKeys
}

// rolesOf lists the roles of a root in the order of their importance. One that
// means nothing to machines is quoted, because anybody may have named it;
// strangeRoles keeps it from being signed.
func rolesOf(spec manifest.RootSpec) []role {
	var list []role
	for _, name := range tufRoles {
		if keys, ok := spec.Roles[name]; ok {
			list = append(list, role{string(name), keys})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(spec.Channels)) {
		list = append(list, role{"channel " + name, spec.Channels[name]})
	}
	for _, name := range strangeRoles(spec) {
		list = append(list, role{fmt.Sprintf("meaningless role %.40q", name), spec.Roles[name]})
	}
	return list
}

var tufRoles = []manifest.Role{manifest.RoleRoot, manifest.RoleTargets, manifest.RoleTimestamp, manifest.RoleSnapshot}

// strangeRoles are roles that mean nothing to machines and would only mislead
// people.
func strangeRoles(spec manifest.RootSpec) []manifest.Role {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(spec.Roles)), func(name manifest.Role) bool { return slices.Contains(tufRoles, name) })
}

func ids(keys []ed25519.PublicKey) []string {
	list := make([]string, len(keys))
	for i, key := range keys {
		list[i] = dsse.KeyID(key)
	}
	return list
}

// rootRows describes a root. signed, if not nil, marks who signed.
func rootRows(spec manifest.RootSpec, n names, signed *manifest.Draft, now time.Time) []string {
	rows := []string{fmt.Sprintf("expires\t%s (%s)", moment(spec.Expires), until(spec.Expires, now))}
	for _, r := range rolesOf(spec) {
		if len(r.keys.Keys) == 0 {
			rows = append(rows, r.name+"\tnobody")
			continue
		}
		rows = append(rows, fmt.Sprintf("%s\t%d of %s", r.name, r.keys.Threshold, plural(int64(len(r.keys.Keys)), "key")))
		for _, key := range r.keys.Keys {
			id, mark := dsse.KeyID(key), ""
			if signed != nil && signed.Signed(key) {
				mark = "  signed"
			}
			rows = append(rows, "\t"+id+"  "+n.of(id)+mark)
		}
	}
	return append(rows, floorRows(spec)...)
}

func floorRows(spec manifest.RootSpec) (rows []string) {
	for _, channel := range slices.Sorted(maps.Keys(spec.Floors)) {
		reset := spec.Floors[channel]
		rows = append(rows, fmt.Sprintf("floor %s\t%s", channel, floorText(reset)))
	}
	return rows
}

func floorText(reset manifest.FloorReset) string {
	return fmt.Sprintf("machines forget what they accepted before root version %d and ask for release %d or newer", reset.Root, reset.Version)
}

// manifestRows describes a manifest.
func manifestRows(m manifest.Manifest, now time.Time) []string {
	rows := []string{
		fmt.Sprintf("release\t%d for %s, %s", m.ManifestVersion, m.Channel, m.Arch),
		"made\t" + moment(m.CreatedAt),
		fmt.Sprintf("expires\t%s (%s)", moment(m.ExpiresAt), until(m.ExpiresAt, now)),
	}
	if m.SecurityFloor > 0 {
		rows = append(rows, fmt.Sprintf("withdraws\tall releases before %d", m.SecurityFloor))
	}
	for _, a := range artifactsOf(m) {
		rows = append(rows, fmt.Sprintf("%s\t%s, %s", a.name, a.Hash, term.Bytes(a.Size)))
		for _, url := range a.URLs {
			rows = append(rows, "\t"+url)
		}
		if a.IPFS != "" {
			rows = append(rows, "\tipfs "+a.IPFS)
		}
		if !a.Chunks.IsZero() {
			rows = append(rows, "\tchunk list "+a.Chunks.String())
		}
		if v := a.Verity; v != nil {
			rows = append(rows, fmt.Sprintf("\thash tree %s over %s", v.Root, term.Bytes(v.DataSize)))
		}
		for _, d := range a.Deltas {
			rows = append(rows, fmt.Sprintf("\tpatch from %s: %s", d.From, share(d.Size, a.Size)))
		}
	}
	return append(rows, folded("cmdline", m.Cmdline)...)
}

// share is the size of a patch, also as a part of what it makes.
func share(size, full int64) string {
	return fmt.Sprintf("%s, %.1f %% of %s", term.Bytes(size), 100*float64(size)/float64(full), term.Bytes(full))
}

// PatchText tells a person what came of a patch: from where to where, and its
// size beside that of what it makes.
func PatchText(p release.Patch) string {
	from := fmt.Sprintf("release %d", p.Release)
	if p.Release == 0 {
		from = p.Delta.From.String()
	}
	if p.Refused != "" {
		return fmt.Sprintf("%s from %s: none, %s", p.Artifact, from, p.Refused)
	}
	text := fmt.Sprintf("%s from %s: %s", p.Artifact, from, share(p.Delta.Size, p.Full))
	if !p.Kept {
		text += "; not kept, as it is more than half"
	}
	return text
}

func patchRows(list []release.Patch) (rows []string) {
	for _, p := range list {
		rows = append(rows, "patch\t"+PatchText(p))
	}
	return rows
}

// folded shows a text that its author chose in lines that no terminal breaks:
// otherwise it might go on where another row seems to begin.
func folded(name, text string) (rows []string) {
	for part := range slices.Chunk([]byte(text), 60) {
		rows = append(rows, name+"\t"+string(part))
		name = ""
	}
	return rows
}

type namedArtifact struct {
	name string
	manifest.Artifact
}

func artifactsOf(m manifest.Manifest) []namedArtifact {
	var list []namedArtifact
	for _, name := range []string{"kernel", "initramfs", "rootfs"} {
		if a, ok := m.Artifact(name); ok {
			list = append(list, namedArtifact{name, a})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m.DTBs)) {
		list = append(list, namedArtifact{"dtb " + name, m.DTBs[name]})
	}
	return list
}

// pointerRows describes a pointer.
func pointerRows(p manifest.Pointer, now time.Time) []string {
	rows := []string{
		fmt.Sprintf("release\t%d for %s, %s", p.ManifestVersion, p.Channel, p.Arch),
		"made\t" + moment(p.CreatedAt),
		fmt.Sprintf("expires\t%s (%s)", moment(p.ExpiresAt), until(p.ExpiresAt, now)),
		fmt.Sprintf("under root\tversion %d", p.RootVersion),
		fmt.Sprintf("manifest\t%s, %d bytes", p.ManifestHash, p.ManifestSize),
	}
	for _, url := range p.URLs {
		rows = append(rows, "\t"+url)
	}
	return rows
}

// tally is how far the signatures of one set of keys are.
type tally struct {
	Who      string   `json:"who"` // "root keys of version 1"
	Need     int      `json:"threshold"`
	Signed   []string `json:"signed"`     // ids of the keys that have signed
	Unsigned []string `json:"not_signed"` // ids of those that have not
}

func count(who string, keys manifest.RoleKeys, d *manifest.Draft) tally {
	t := tally{Who: who, Need: keys.Threshold, Signed: []string{}, Unsigned: []string{}}
	for _, key := range keys.Keys {
		if d.Signed(key) {
			t.Signed = append(t.Signed, dsse.KeyID(key))
		} else {
			t.Unsigned = append(t.Unsigned, dsse.KeyID(key))
		}
	}
	return t
}

func (t tally) missing() int { return max(t.Need-len(t.Signed), 0) }

// row says how many signatures are there, how many are needed, and who could
// give the missing ones.
func (t tally) row(n names) string {
	if t.missing() == 0 {
		return fmt.Sprintf("signatures\t%d given, %d needed, by the %s: enough", len(t.Signed), t.Need, t.Who)
	}
	who := make([]string, len(t.Unsigned))
	for i, id := range t.Unsigned {
		if who[i] = n[id]; who[i] == "" {
			who[i] = id[:16]
		}
	}
	return fmt.Sprintf("signatures\t%d given, %d needed, by the %s (not yet: %s)", len(t.Signed), t.Need, t.Who, strings.Join(who, ", "))
}

func tallyRows(list []tally, n names) (rows []string) {
	for _, t := range list {
		rows = append(rows, t.row(n))
	}
	return rows
}

// strangerRows names the keys of signatures that count for nobody above: other
// people's, or signatures that are wrong.
func strangerRows(list []tally, claimed []string) (rows []string) {
	for _, id := range claimed {
		if !slices.ContainsFunc(list, func(t tally) bool { return slices.Contains(t.Signed, id) }) {
			rows = append(rows, "does not count\ta signature in the name of key "+id)
		}
	}
	return rows
}

func complete(list []tally) bool {
	return !slices.ContainsFunc(list, func(t tally) bool { return t.missing() > 0 })
}

// writeJSON writes one value on one line.
func writeJSON(out io.Writer, v any) error {
	data, err := strictjson.MarshalCanonical(v)
	if err != nil {
		return err
	}
	_, err = out.Write(append(data, '\n'))
	return err
}

// checkFormat refuses an unknown --format.
func checkFormat(format string) error {
	if format != "text" && format != "json" {
		return usage("--format %s: choose text or json", format)
	}
	return nil
}
