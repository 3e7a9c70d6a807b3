package guest

// spec is what process 1 of a guest has to do: the file specFile of its
// initramfs.
type spec struct {
	Modules []module `json:"modules"`
	Dir     string   `json:"dir"`  // the test's working folder
	Args    []string `json:"args"` // of the test binary
	Env     []string `json:"env"`
}

// module is a module file of the initramfs, to be loaded in the order of spec.
type module struct {
	File   string `json:"file"`
	Params string `json:"params,omitempty"`
}

const (
	// specFile makes the process with number 1 that finds it a guest's init. It is
	// renamed to doneFile before the test starts: whoever finds that is in a guest
	// whose machine is ready.
	specFile = "/phase-guest.json"
	doneFile = "/phase-guest.done"
)

// message is one line on the report port, from process 1 to the host. Exactly one
// field is set.
type message struct {
	Started bool   `json:"started,omitempty"` // the test runs from now on
	Output  []byte `json:"output,omitempty"`  // a piece of what the test printed
	Failure string `json:"failure,omitempty"` // the guest could not be made ready
	Exit    string `json:"exit,omitempty"`    // how the test's process ended
}

// exitOK is message.Exit of a test binary that was content.
const exitOK = "exit status 0"
