package manifest

import (
	"testing"

	"github.com/phasebased/phase/blob"
)

func TestEffectiveFloor(t *testing.T) {
	digest := blob.Of([]byte("x"))
	root := &Root{version: 5, floors: map[string]FloorReset{ChannelStable: {Root: 3, Version: 41}}}
	for _, tt := range []struct {
		name, channel string
		stored, want  Floor
	}{
		{"fast-forwarded", ChannelStable, Floor{1e9, digest, 1e9, 2}, Floor{41, blob.Digest{}, 41, 5}},
		{"of an unknown root", ChannelStable, Floor{1e9, digest, 0, 0}, Floor{41, blob.Digest{}, 0, 5}},
		{"nothing seen", ChannelStable, Floor{}, Floor{41, blob.Digest{}, 0, 5}},
		{"lower", ChannelStable, Floor{30, digest, 20, 1}, Floor{41, blob.Digest{}, 20, 5}},
		{"the reset's own version", ChannelStable, Floor{41, digest, 41, 2}, Floor{41, blob.Digest{}, 41, 5}},
		{"accepted under the resetting root", ChannelStable, Floor{50, digest, 45, 3}, Floor{50, digest, 45, 3}},
		{"accepted later", ChannelStable, Floor{60, digest, 45, 5}, Floor{60, digest, 45, 5}},
		{"accepted under a root that is not here", ChannelStable, Floor{60, digest, 45, 9}, Floor{60, digest, 45, 9}},
		{"another channel", ChannelTesting, Floor{1e9, digest, 7, 1}, Floor{1e9, digest, 7, 1}},
	} {
		got := root.EffectiveFloor(tt.channel, tt.stored)
		if got != tt.want {
			t.Errorf("%s: got %+v, want %+v", tt.name, got, tt.want)
		}
		if again := root.EffectiveFloor(tt.channel, got); again != got {
			t.Errorf("%s: a second time gives %+v", tt.name, again)
		}
	}
	stored := Floor{7, digest, 3, 1}
	for _, root := range []*Root{nil, {}} {
		if got := root.EffectiveFloor(ChannelStable, stored); got != stored {
			t.Errorf("a root that says nothing changed the floor to %+v", got)
		}
	}
}

// TestFloorAfterwards: what to store next to what was stored.
func TestFloorAfterwards(t *testing.T) {
	g := newGenerator(t)
	raw := securityFloor("4")(g)
	seven := blob.Of([]byte(g.replace(g.payload["manifest"], `"version":"0.1"`, `"security_floor":4,"version":"0.1"`)))
	eight := blob.Of([]byte("eight"))
	for _, tt := range []struct {
		name     string
		root     string
		lastGood bool
		stored   Floor
		want     Floor
	}{
		{"first", "", false, Floor{}, Floor{7, seven, 4, 1}},
		{"newer", "", false, Floor{6, blob.Of([]byte("six")), 2, 1}, Floor{7, seven, 4, 1}},
		{"security floor only rises", "", false, Floor{6, blob.Of([]byte("six")), 5, 1}, Floor{7, seven, 5, 1}},
		{"again", "", false, Floor{7, seven, 0, 1}, Floor{7, seven, 4, 1}},
		{"again, without a digest", "", false, Floor{ManifestVersion: 7}, Floor{7, seven, 4, 1}},
		{"again, once accepted under a newer root", "", false, Floor{7, seven, 4, 3}, Floor{7, seven, 4, 3}},
		{"under a newer root", "root-ok-expires-soon", false, Floor{6, seven, 4, 0}, Floor{7, seven, 4, 1}},
		{"after a reset", "root-ok-floor-reset", false, fastForward, Floor{7, seven, 4, 3}},
		{"kept release, newest", "", true, Floor{7, seven, 0, 1}, Floor{7, seven, 4, 1}},
		{"kept release, older", "", true, Floor{8, eight, 1, 1}, Floor{8, eight, 4, 1}},
	} {
		verifier := Verifier{Root: g.root(tt.root), Want: wantTest, Floor: tt.stored}
		v, err := verifier.Manifest(raw, nil, nil, now)
		if tt.lastGood {
			v, err = verifier.LastGood(raw, nil, now)
		}
		if err != nil || v.Floor() != tt.want {
			t.Errorf("%s: %+v, %v; want %+v", tt.name, v.Floor(), err, tt.want)
		}
	}
}
