package manifest

import (
	"fmt"
	"maps"
	"slices"

	"github.com/phasebased/phase/internal/strictjson"
)

// memberForm fits all that manifests and pointers will ever add.
var memberForm = form{"a-z", "a-z0-9_", 64}

// rootMemberForm fits all that roots will ever add, and what others add to
// theirs. No name that it fits can be taken for another one by a reader that
// does not mind the case of letters, as Go's encoding/json is.
var rootMemberForm = form{"a-z_", "a-z0-9_.-", 64}

// extra is the members of an object that this program does not know.
type extra struct {
	place string // path of the object, "" or ending with a dot
	raw   strictjson.Raw
}

// names returns the paths of the members, quoted for people, in order. If
// want is not nil it refuses members that look like a known one in another
// case or script.
func (e extra) names(want *form) ([]string, error) {
	if len(e.raw) == 0 {
		return nil, nil
	}
	var members map[string]strictjson.Raw
	if err := strictjson.Unmarshal(e.raw, &members, strictjson.Limits{}); err != nil {
		return nil, err
	}
	var list []string
	for _, name := range slices.Sorted(maps.Keys(members)) {
		if want != nil && !want.fits(name) {
			return nil, fmt.Errorf("unknown member %.40q, whose name is not of the form %s", name, want)
		}
		list = append(list, fmt.Sprintf("%.120q", e.place+name))
	}
	return list, nil
}

func unknownMembers(extras []extra, want *form) ([]string, error) {
	var list []string
	for _, e := range extras {
		names, err := e.names(want)
		if err != nil {
			return nil, err
		}
		list = append(list, names...)
	}
	return list, nil
}

// extras lists every object of a manifest that may have unknown members.
func (w wireManifest) extras() []extra {
	list := []extra{
		{"", w.Extra},
		{"artifacts.", w.Artifacts.Extra},
	}
	list = append(list, w.Artifacts.Kernel.extras("artifacts.kernel.")...)
	list = append(list, w.Artifacts.Initramfs.extras("artifacts.initramfs.")...)
	if w.Artifacts.Rootfs != nil {
		list = append(list, w.Artifacts.Rootfs.extras("artifacts.rootfs.")...)
	}
	for _, name := range slices.Sorted(maps.Keys(w.Artifacts.DTBs)) {
		list = append(list, w.Artifacts.DTBs[name].extras("artifacts.dtbs."+name+".")...)
	}
	return list
}

func (w wireArtifact) extras(place string) []extra {
	list := []extra{{place, w.Extra}}
	for i, d := range w.Deltas {
		list = append(list, extra{fmt.Sprintf("%sdeltas[%d].", place, i), d.Extra})
	}
	if w.Verity != nil {
		list = append(list, extra{place + "verity.", w.Verity.Extra})
	}
	return list
}

func (w wirePointer) extras() []extra { return []extra{{"", w.Extra}} }
