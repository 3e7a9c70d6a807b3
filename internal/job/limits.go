package job

// NodeLimits are what this node is willing to give to one job. They come from
// the node's own configuration and always win: a job that asks for more is
// refused before its module is even fetched, because running it with less
// than it asked for would make replicas disagree.
type NodeLimits struct {
	Limits            // caps of the job's own limits
	ModuleBytes int64 // largest module that is fetched and compiled
	InputBytes  int64 // of all inputs of a job together
}

// MaxModuleBytes is the largest module any node takes.
const MaxModuleBytes = 64 << 20

// DefaultNodeLimits suit a small machine.
var DefaultNodeLimits = NodeLimits{
	Limits: Limits{
		MemoryBytes: 128 << 20,
		DeadlineMS:  300_000,
		StdoutBytes: 8 << 20,
		StderrBytes: 8 << 20,
		Fuel:        6e12,
	},
	ModuleBytes: MaxModuleBytes,
	InputBytes:  1 << 30,
}

// Admit refuses (TooBig) a job that asks for more than the node gives; the
// refusal names the first such limit, the wish and the cap.
func (n NodeLimits) Admit(j *Job) error {
	caps := n.Limits.fields()
	for i, want := range j.Limits().fields() {
		if want.value > caps[i].value {
			return refuse(TooBig, "the job asks for %s %d, this node gives at most %d", want.name, want.value, caps[i].value)
		}
	}
	if have := j.InputBytes(); have > n.InputBytes {
		return refuse(TooBig, "the job has inputs of %d bytes, this node takes at most %d", have, n.InputBytes)
	}
	return nil
}

// MaxUpload is the largest file that a job can need.
func (n NodeLimits) MaxUpload() int64 { return max(n.ModuleBytes, n.InputBytes) }

// AdmitModule refuses (TooBig) a module of more than ModuleBytes.
func (n NodeLimits) AdmitModule(size int64) error {
	if size > n.ModuleBytes {
		return refuse(TooBig, "the module has %d bytes, this node takes at most %d", size, n.ModuleBytes)
	}
	return nil
}

// Clamp returns l with zero fields filled from DefaultLimits and every field
// lowered to the node's cap. It is for a person at this node, who asked for
// nothing in particular; a stranger's job is judged by Admit.
func (n NodeLimits) Clamp(l Limits) Limits {
	l = l.withDefaults()
	return Limits{
		MemoryBytes: min(l.MemoryBytes, n.MemoryBytes),
		DeadlineMS:  min(l.DeadlineMS, n.DeadlineMS),
		StdoutBytes: min(l.StdoutBytes, n.StdoutBytes),
		StderrBytes: min(l.StderrBytes, n.StderrBytes),
		Fuel:        min(l.Fuel, n.Fuel),
	}
}
