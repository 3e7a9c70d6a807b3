package manifest

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// The oracle is a second verifier, written in another way: it knows nothing of
// strict or canonical form and reads everything into maps, but counts keys and
// compares numbers for itself. What it refuses the real one must refuse too.
type oracle map[string]any // the signed part of a trusted root

func loose(raw []byte) (map[string]any, error) {
	var v map[string]any
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	return v, d.Decode(&v)
}

// dig walks down by names; what is not there is nil.
func dig(v any, names ...string) any {
	for _, name := range names {
		object, _ := v.(map[string]any)
		v = object[name]
	}
	return v
}

func word(v any, names ...string) string {
	s, _ := dig(v, names...).(string)
	return s
}

func number(v any, names ...string) int64 {
	n, _ := dig(v, names...).(json.Number)
	i, err := n.Int64()
	if err != nil {
		return -1
	}
	return i
}

func list(v any, names ...string) []any {
	l, _ := dig(v, names...).([]any)
	return l
}

func newOracle(rootFile []byte) (oracle, error) {
	file, err := loose(rootFile)
	if err != nil {
		return nil, err
	}
	signed, _ := file["signed"].(map[string]any)
	return signed, nil
}

// enough counts the keys of a role for which some signature of that name fits
// the message. decode reads the signature.
func (o oracle) enough(role any, signatures []any, message []byte, decode func(string) ([]byte, error)) error {
	good := map[string]bool{}
	for _, id := range list(role, "keyids") {
		pub, err := hex.DecodeString(word(map[string]any(o), "keys", fmt.Sprint(id), "keyval", "public"))
		if err != nil || len(pub) != 32 {
			continue
		}
		for _, s := range signatures {
			sig, err := decode(word(s, "sig"))
			if err == nil && word(s, "keyid") == id && ed25519.Verify(pub, message, sig) {
				good[string(pub)] = true
			}
		}
	}
	if n := number(role, "threshold"); n < 1 || int64(len(good)) < n {
		return fmt.Errorf("%d keys, want %d", len(good), n)
	}
	return nil
}

// open checks an envelope and returns its payload. role picks who must sign.
func (o oracle) open(raw []byte, payloadType string, role func(payload any) any) (map[string]any, []byte, error) {
	env, err := loose(raw)
	if err != nil {
		return nil, nil, err
	}
	data, err := base64.StdEncoding.DecodeString(word(env["signed"], "data"))
	if err != nil {
		return nil, nil, err
	}
	payload, err := loose(data)
	if err != nil {
		return nil, nil, err
	}
	message := fmt.Sprintf("DSSEv1 %d %s %d %s", len(payloadType), payloadType, len(data), data)
	err = o.enough(role(payload), list(env["signatures"]), []byte(message), base64.StdEncoding.DecodeString)
	return payload, data, err
}

func (o oracle) manifestRole(payload any) any {
	if own := dig(map[string]any(o), "x-phase-channels", word(payload, "channel")); own != nil {
		return own
	}
	return dig(map[string]any(o), "roles", "targets")
}

func (o oracle) pointerRole(any) any { return dig(map[string]any(o), "roles", "timestamp") }

// manifest returns why it would not boot raw. kept is for a last good release.
func (o oracle) manifest(raw []byte, want Want, floor Floor, at time.Time, kept bool) error {
	if len(raw) > 65536 {
		return errors.New("large")
	}
	p, data, err := o.open(raw, "application/vnd.phase.boot-manifest.v0.1+json", o.manifestRole)
	if err != nil {
		return err
	}
	if err := asked(p, want); err != nil {
		return err
	}
	if err := o.floor(p, data, floor, kept); err != nil {
		return err
	}
	if err := o.time(p, at, 180, kept); err != nil {
		return err
	}
	return harmless(p)
}

func (o oracle) pointer(raw []byte, want Want, at time.Time) error {
	if len(raw) > 2048 {
		return errors.New("large")
	}
	p, _, err := o.open(raw, "application/vnd.phase.boot-pointer.v0.1+json", o.pointerRole)
	if err != nil {
		return err
	}
	if err := asked(p, want); err != nil {
		return err
	}
	if n := number(p, "root_version"); n < 1 || n > number(map[string]any(o), "version") {
		return errors.New("root version")
	}
	if n := number(p, "manifest_size"); n < 1 || n > 65536 || number(p, "manifest_version") < 1 || len(word(p, "manifest_hash")) != 71 {
		return errors.New("names no manifest")
	}
	return o.time(p, at, 14, false)
}

func asked(p map[string]any, want Want) error {
	product, named := p["product"]
	switch {
	case named && product != "phase-boot":
		return errors.New("product")
	case !strings.HasPrefix(word(p, "version"), "0."):
		return errors.New("schema")
	case want.Channel != "*" && word(p, "channel") != want.Channel, want.Arch != "*" && word(p, "arch") != want.Arch:
		return errors.New("not what was asked for")
	case !slices.Contains([]string{"stable", "testing", "nightly"}, word(p, "channel")):
		return errors.New("no such channel")
	case !slices.Contains([]string{"x86_64", "arm64"}, word(p, "arch")):
		return errors.New("no such architecture")
	}
	return nil
}

func (o oracle) floor(p map[string]any, data []byte, floor Floor, kept bool) error {
	version := number(p, "manifest_version")
	if security, ok := p["security_floor"]; ok && (number(security) < 1 || number(security) > version) {
		return errors.New("security floor")
	}
	lowest, security := floor.ManifestVersion, floor.SecurityFloor
	digest := floor.Digest.String()
	if reset := dig(map[string]any(o), "x-phase-floors", word(p, "channel")); reset != nil {
		to := number(reset, "version")
		if kept && version < to {
			return errors.New("withdrawn by the root")
		}
		if floor.RootVersion < number(reset, "root") {
			lowest, digest = to, ""
			security = min(security, to)
		}
	}
	sum := sha256.Sum256(data)
	switch {
	case version < 1, !kept && version < lowest, version < security:
		return errors.New("old")
	case version == lowest && digest != "" && !floor.Digest.IsZero() && digest != fmt.Sprintf("sha256:%x", sum):
		return errors.New("same version, other content")
	}
	return nil
}

func (o oracle) time(p map[string]any, at time.Time, days int, kept bool) error {
	created, err := time.Parse(time.RFC3339, word(p, "created_at"))
	if err != nil {
		return err
	}
	expires, err := time.Parse(time.RFC3339, word(p, "expires_at"))
	if err != nil {
		return err
	}
	rootExpires, err := time.Parse(time.RFC3339, word(map[string]any(o), "expires"))
	switch {
	case err != nil:
		return err
	case !created.Before(expires), expires.After(created.AddDate(0, 0, days)):
		return errors.New("life")
	case created.Add(-10 * time.Minute).After(at):
		return errors.New("future")
	case !kept && (!at.Before(expires) || !at.Before(rootExpires)):
		return errors.New("expired")
	case !kept && !rootExpires.After(created):
		return errors.New("made after the root's end")
	}
	return nil
}

func harmless(p map[string]any) error {
	artifacts, _ := p["artifacts"].(map[string]any)
	if artifacts["kernel"] == nil || artifacts["initramfs"] == nil {
		return errors.New("artifact missing")
	}
	all := map[string]any{}
	for name, a := range artifacts {
		if name == "kernel" || name == "initramfs" || name == "rootfs" {
			all[name] = a
		}
	}
	if dtbs, ok := artifacts["dtbs"].(map[string]any); ok {
		for name := range dtbs {
			if strings.ContainsAny(name, "/\\\x00") || strings.HasPrefix(name, ".") {
				return errors.New("name")
			}
		}
		maps.Copy(all, dtbs)
	}
	for name, a := range all {
		if n := number(a, "size"); n < 1 || n > 8<<30 || !strings.HasPrefix(word(a, "hash"), "sha256:") || len(word(a, "hash")) != 71 {
			return errors.New("artifact")
		}
		if err := parts(a); err != nil {
			return err
		}
		if err := tree(a); err != nil || name != "rootfs" && dig(a, "verity") != nil {
			return fmt.Errorf("hash tree of %s: %w", name, err)
		}
		for _, u := range list(a, "urls") {
			if s, _ := u.(string); !strings.HasPrefix(strings.ToLower(s), "http") || strings.ContainsAny(s, " \r\n\x00#") {
				return errors.New("URL")
			}
		}
	}
	for _, w := range strings.Fields(word(p, "cmdline")) {
		for _, bad := range []string{"init=", "rdinit=", "lockdown=", "module.sig_enforce="} {
			if strings.HasPrefix(strings.ReplaceAll(w, "-", "_"), bad) {
				return errors.New("command line")
			}
		}
	}
	return nil
}

// parts returns why the chunk list and the patches of an artifact cannot be
// what they say.
func parts(a any) error {
	named := map[string]string{word(a, "hash"): "the artifact"}
	name := func(hash, what string) error {
		if digits, ok := strings.CutPrefix(hash, "sha256:"); !ok || len(digits) != 64 || strings.Trim(digits, "0123456789abcdef") != "" {
			return errors.New("hash of " + what)
		}
		if named[hash] != "" && named[hash] != what {
			return errors.New(what + " is " + named[hash])
		}
		named[hash] = what
		return nil
	}
	if chunks := dig(a, "chunks"); chunks != nil {
		if err := name(word(chunks), "the chunk list"); err != nil {
			return err
		}
	}
	deltas := list(a, "deltas")
	if len(deltas) > 8 {
		return errors.New("many patches")
	}
	origins := map[string]bool{word(a, "hash"): true}
	for _, d := range deltas {
		from := word(d, "from")
		if origins[from] || len(from) != 71 || from == word(d, "hash") {
			return errors.New("origin of a patch")
		}
		origins[from] = true
		if err := name(word(d, "hash"), "a patch"); err != nil {
			return err
		}
		if n := number(d, "size"); n < 1 || n > number(a, "size") {
			return errors.New("size of a patch")
		}
	}
	return nil
}

// tree returns why the hash tree of an artifact cannot be what it says: it adds
// up its levels block by block.
func tree(a any) error {
	verity := dig(a, "verity")
	if verity == nil {
		return nil
	}
	data := number(verity, "data_size")
	if data < 4096 || data > 8<<30 || data%4096 != 0 {
		return errors.New("size of the data")
	}
	hashes, blocks := int64(0), data/4096
	for level := blocks; level != 1; hashes += level {
		above := level >> 7
		if level&127 != 0 {
			above++
		}
		level = above
	}
	if number(a, "size") != 4096*(blocks+hashes) {
		return errors.New("size of the whole")
	}
	if salt := dig(verity, "salt"); salt != nil {
		text, ok := salt.(string)
		if !ok || len(text) == 0 || len(text) > 64 || len(text)%2 != 0 || strings.Trim(text, "0123456789abcdef") != "" {
			return errors.New("salt")
		}
	}
	if root := word(verity, "root"); len(root) != 71 || !strings.HasPrefix(root, "sha256:") || strings.Trim(root[7:], "0") == "" {
		return errors.New("root")
	}
	return nil
}

// update returns why raw is not the next root.
func (o oracle) update(raw []byte) error {
	file, err := loose(raw)
	if err != nil {
		return err
	}
	signed, _ := file["signed"].(map[string]any)
	for _, s := range list(file["signatures"]) {
		if len(members(s)) != 2 || dig(s, "keyid") == nil || dig(s, "sig") == nil {
			return errors.New("not a signature")
		}
	}
	message := plain(nil, signed)
	for _, keys := range []oracle{o, signed} {
		role := dig(map[string]any(keys), "roles", "root")
		if err := keys.enough(role, list(file["signatures"]), message, hex.DecodeString); err != nil {
			return err
		}
	}
	if number(signed, "version") != number(map[string]any(o), "version")+1 || word(signed, "_type") != "root" {
		return errors.New("not the next version")
	}
	if err := complete(signed); err != nil {
		return err
	}
	owned := map[any]bool{}
	for _, part := range []string{"roles", "x-phase-channels"} {
		roles, _ := signed[part].(map[string]any)
		for _, role := range roles {
			for _, id := range list(role, "keyids") {
				if owned[id] {
					return errors.New("a key with two roles")
				}
				owned[id] = true
			}
		}
	}
	return nil
}

// rootNames are the members of a root, its keys and its roles that a program
// may look for, ours included.
var rootNames = []string{"_type", "spec_version", "consistent_snapshot", "version", "expires", "keys", "roles",
	"keytype", "scheme", "keyval", "public", "keyids", "threshold", "x-phase-channels", "x-phase-floors"}

// complete returns why another program could read signed differently: it lacks
// what that program would make up, or has a member in another case.
func complete(signed map[string]any) error {
	if _, ok := signed["consistent_snapshot"].(bool); !ok {
		return errors.New("consistent_snapshot")
	}
	objects := []any{signed}
	for _, key := range members(signed, "keys") {
		objects = append(objects, key, dig(key, "keyval"))
	}
	for _, role := range members(signed, "roles") {
		if _, ok := dig(role, "keyids").([]any); !ok {
			return errors.New("keyids")
		}
		objects = append(objects, role)
	}
	for _, object := range objects {
		for name := range members(object) {
			for _, known := range rootNames {
				if name != known && strings.EqualFold(name, known) {
					return errors.New("a name in another case")
				}
			}
		}
	}
	return nil
}

func members(v any, names ...string) map[string]any {
	m, _ := dig(v, names...).(map[string]any)
	return m
}

// plain writes canonical JSON in the form that TUF signs.
func plain(out []byte, v any) []byte {
	switch v := v.(type) {
	case map[string]any:
		out = append(out, '{')
		for i, name := range slices.Sorted(maps.Keys(v)) {
			if i > 0 {
				out = append(out, ',')
			}
			out = plain(append(plain(out, name), ':'), v[name])
		}
		return append(out, '}')
	case []any:
		out = append(out, '[')
		for i, each := range v {
			if i > 0 {
				out = append(out, ',')
			}
			out = plain(out, each)
		}
		return append(out, ']')
	case string:
		return fmt.Appendf(out, `"%s"`, strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(v))
	}
	return fmt.Append(out, v)
}

// oracle returns the oracle for a root of the vectors.
func (g *generator) oracle(root string) oracle {
	g.t.Helper()
	o, err := newOracle(g.rootFile(root))
	if err != nil {
		g.t.Fatal(err)
	}
	return o
}

func isPart(v vector) bool {
	parts := slices.Concat(partVectors, verityVectors)
	return slices.ContainsFunc(parts, func(p vector) bool { return p.name == v.name })
}

// TestOracleOnVectors: it accepts every good vector, so it is not simply
// against everything, and refuses every vector whose fault it looks for, so it
// is not simply for everything.
func TestOracleOnVectors(t *testing.T) {
	g := newGenerator(t)
	looksFor := []Rule{RuleSignature, RuleProduct, RuleChannel, RuleArch, RuleRollback, RuleSameVersion, RuleRootVersion,
		RuleExpired, RuleFuture, RuleSize}
	judged := 0
	for _, v := range vectors {
		full, o := v.defaults(), g.oracle(v.root)
		var err error
		switch v.kind() {
		case "manifest", "last-good":
			err = o.manifest(v.make(g), full.want, v.floor, full.at, v.kind() == "last-good")
		case "pointer":
			err = o.pointer(v.make(g), full.want, full.at)
		default:
			continue
		}
		switch {
		case v.rule == "" && err != nil:
			t.Errorf("%s: the oracle refuses it: %v", v.name, err)
		case (slices.Contains(looksFor, v.rule) || isPart(v) && v.rule == RulePolicy) && err == nil:
			t.Errorf("%s: the oracle accepts it", v.name)
		case slices.Contains(looksFor, v.rule):
			judged++
		}
	}
	if judged < 30 {
		t.Errorf("only %d vectors were for the oracle to refuse", judged)
	}
}

func TestOracleOnChains(t *testing.T) {
	g := newGenerator(t)
	for _, c := range chainVectors {
		files := c.make(g)
		names := sortedSteps(files)
		for i, name := range names[1:] {
			o, err := newOracle(files[names[i]])
			if err != nil {
				t.Fatal(err)
			}
			err = o.update(files[name])
			if name != c.refused && err != nil {
				t.Errorf("%s: the oracle refuses %s: %v", c.name, name, err)
			}
			if name == c.refused && c.rule == RuleRootChain && err == nil {
				t.Errorf("%s: the oracle accepts %s", c.name, name)
			}
		}
	}
}
