package ceremony

import (
	"fmt"
	"maps"
	"slices"

	"github.com/phasebased/phase/manifest"
)

// difference says what becomes of a root in its successor, role by role, each
// key with its id and the name of its file. It has no line for what stays.
func difference(old, next manifest.RootSpec, n names) []string {
	var rows []string
	before := map[string]manifest.RoleKeys{}
	for _, r := range rolesOf(old) {
		before[r.name] = r.keys
	}
	for _, r := range rolesOf(next) {
		rows = append(rows, roleDifference(r.name, before[r.name], r.keys, n)...)
		delete(before, r.name)
	}
	for _, name := range slices.Sorted(maps.Keys(before)) {
		rows = append(rows, roleDifference(name, before[name], manifest.RoleKeys{}, n)...)
	}
	if !old.Expires.Equal(next.Expires) {
		rows = append(rows, fmt.Sprintf("expires\t%s instead of %s", moment(next.Expires), moment(old.Expires)))
	}
	return append(rows, floorDifference(old, next)...)
}

func roleDifference(name string, old, next manifest.RoleKeys, n names) []string {
	was, is := ids(old.Keys), ids(next.Keys)
	var rows []string
	for _, id := range is {
		if !slices.Contains(was, id) {
			rows = append(rows, fmt.Sprintf("%s\tadd\t%s\t%s", name, n.of(id), id))
		}
	}
	for _, id := range was {
		if !slices.Contains(is, id) {
			rows = append(rows, fmt.Sprintf("%s\tremove\t%s\t%s", name, n.of(id), id))
		}
	}
	if old.Threshold != next.Threshold || len(was) != len(is) {
		rows = append(rows, fmt.Sprintf("%s\t%s instead of %s", name, quorum(next), quorum(old)))
	}
	return rows
}

func quorum(keys manifest.RoleKeys) string {
	if len(keys.Keys) == 0 {
		return "nobody"
	}
	return fmt.Sprintf("%d of %s", keys.Threshold, plural(int64(len(keys.Keys)), "key"))
}

func floorDifference(old, next manifest.RootSpec) (rows []string) {
	for _, channel := range slices.Sorted(maps.Keys(next.Floors)) {
		if reset := next.Floors[channel]; old.Floors[channel] != reset {
			rows = append(rows, fmt.Sprintf("floor %s\t%s", channel, floorText(reset)))
		}
	}
	for _, channel := range slices.Sorted(maps.Keys(old.Floors)) {
		if _, kept := next.Floors[channel]; !kept {
			rows = append(rows, fmt.Sprintf("floor %s\tno longer: machines that come late keep a floor they should forget", channel))
		}
	}
	return rows
}
