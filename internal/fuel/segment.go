package fuel

// A segment is code that is paid for at once: whoever reaches its beginning
// pays for all of it. It need not be contiguous. What follows a block belongs to
// what stands before it, unless a branch from inside passes it over.
type segment struct {
	at   int // in out: where its price is paid
	cost int64
	// before is the segment that is always passed before this one is reached, -1
	// if this one is never part of another.
	before int
	loop   bool // at a loop's head
	borrow int64
}

// nobody is the segment of code that is never reached.
const nobody = -1

// frame is a block, loop or if around the current instruction, or the function.
type frame struct {
	op     byte
	before int  // segment in which it stands
	alt    bool // an if that has had no else so far
	target bool // a branch leads to its end
	live   bool // the end of the first arm of an if with else is reached
	// reach is the outermost frame that a branch from inside leads to, by its place
	// in frames.
	reach int
}

// lump is the price up to which a segment is paid for by the one before it,
// whether a branch passes it over or not; twice as much is what a segment takes
// on. Both are bounds of how much is charged without having been executed.
const lump = 64

// open begins a segment here.
func (f *function) open(before int, loop bool) {
	f.segments = append(f.segments, segment{at: len(f.out), before: before, loop: loop})
	f.current = len(f.segments) - 1
}

func (f *function) pay(price int64) {
	if f.current != nobody {
		f.segments[f.current].cost += price
	}
}

func (f *function) top() *frame { return &f.frames[len(f.frames)-1] }

// enter follows the beginning of a block, loop or if.
func (f *function) enter(op byte) {
	f.frames = append(f.frames, frame{op: op, before: f.current, alt: op == opIf, reach: len(f.frames)})
	if f.current == nobody {
		return
	}
	switch op {
	case opLoop:
		f.open(f.current, true)
	case opIf:
		f.open(f.current, false)
	}
}

// otherwise follows an else.
func (f *function) otherwise() error {
	top := f.top()
	if !top.alt || len(f.frames) == 1 {
		return refuse("an else without an if")
	}
	top.alt, top.live = false, f.current != nobody
	f.current = nobody
	if top.before != nobody {
		f.open(top.before, false)
	}
	return nil
}

// leave follows an end.
func (f *function) leave() {
	top, place := *f.top(), len(f.frames)-1
	f.frames = f.frames[:place]
	if place == 0 || top.before == nobody {
		return
	}
	outer := f.top()
	outer.reach = min(outer.reach, top.reach)
	joined := top.target || top.live || top.op == opIf && (top.alt || f.current != nobody)
	switch {
	case !joined && f.current == nobody:
	case !joined && top.op == opBlock: // goes on as if there were no block
	case top.reach >= place:
		f.current = top.before
	default:
		f.open(top.before, false)
	}
}

// branch notes that a branch leads to a label.
func (f *function) branch(label uint32) error {
	if uint64(label) >= uint64(len(f.frames)) {
		return refuse("a branch to label %d of %d", label, len(f.frames))
	}
	place := len(f.frames) - 1 - int(label)
	f.frames[place].target = f.frames[place].target || f.frames[place].op != opLoop && f.current != nobody
	f.top().reach = min(f.top().reach, place)
	return nil
}

// mergeSegments lets cheap segments be paid for by those before them, the last
// ones first.
func (f *function) mergeSegments() {
	for i := len(f.segments) - 1; i > 0; i-- {
		s := &f.segments[i]
		if s.loop || s.before == nobody || s.cost > lump {
			continue
		}
		if into := &f.segments[s.before]; into.borrow+s.cost <= 2*lump {
			into.borrow += s.cost
			into.cost += s.cost
			s.cost = 0
		}
	}
}
