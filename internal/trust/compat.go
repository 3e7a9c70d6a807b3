package trust

import "github.com/phasebased/phase/manifest"

// Floors is a State by the name it had when it kept floors only.
type Floors struct{ state *State }

// OpenFloors returns the floors of OpenState(dir).
func OpenFloors(dir string) *Floors { return &Floors{OpenState(dir)} }

// Load is State.Floor.
func (f *Floors) Load(want manifest.Want) (manifest.Floor, error) { return f.state.Floor(want) }

// Save is State.SaveFloor without a root.
func (f *Floors) Save(want manifest.Want, floor manifest.Floor) error {
	return f.state.SaveFloor(want, floor, nil)
}
