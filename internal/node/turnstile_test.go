package node

import (
	"testing"
	"time"
)

// hall is a turnstile with a clock that a test turns.
type hall struct {
	*turnstile
	t     *testing.T
	clock time.Time
}

func newHall(t *testing.T, slots int) *hall {
	h := &hall{t: t, clock: time.Unix(1e9, 0)}
	h.turnstile = newTurnstile(slots, 100, 0, func() time.Time { return h.clock })
	return h
}

func (h *hall) come(who string) *ticket {
	h.t.Helper()
	tk, err := h.take(who, false)
	if err != nil {
		h.t.Fatal(err)
	}
	return tk
}

func inside(tk *ticket) bool {
	select {
	case <-tk.called:
		return true
	default:
		return false
	}
}

func TestOneAloneHasAllPlaces(t *testing.T) {
	h := newHall(t, 3)
	for i := range 3 {
		if !inside(h.come("a")) {
			t.Errorf("job %d of a lone submitter waits", i)
		}
	}
	if inside(h.come("a")) {
		t.Error("four jobs in three places")
	}
}

// Who was met by somebody else leaves a place, until that one has been away for long.
func TestOneLeavesAPlace(t *testing.T) {
	h := newHall(t, 3)
	h.come("b").leave()
	var crowd []*ticket
	for range 4 {
		crowd = append(crowd, h.come("a"))
	}
	if !inside(crowd[1]) || inside(crowd[2]) {
		t.Fatal("a has not two of three places")
	}
	b := h.come("b")
	if !inside(b) {
		t.Fatal("b has to wait for a's jobs")
	}
	if inside(h.come("b")) {
		t.Error("four jobs in three places")
	}
	// b's second comes first when b's first ends: a has its share.
	b.leave()
	if inside(crowd[2]) {
		t.Error("a has all places, and b waits")
	}
	crowd[0].leave()
	if !inside(crowd[2]) {
		t.Error("a lost a place")
	}
}

// A place that is kept for others makes no room for those who wait.
func TestRoomIsBoundedBesideAKeptPlace(t *testing.T) {
	h := newHall(t, 2)
	h.room = 3
	h.come("b").leave()
	for range 1 + 3 {
		h.come("a")
	}
	if _, err := h.take("a", false); err == nil {
		t.Error("more wait than there is room for")
	}
	if !inside(h.come("b")) {
		t.Error("b does not get the place that is kept")
	}
}

// Who has nothing here is not kept out by one who fills the room.
func TestRoomForWhoHasNone(t *testing.T) {
	h := newHall(t, 1)
	h.room = 3
	for range 1 + 3 {
		h.come("a")
	}
	if _, err := h.take("a", false); err == nil {
		t.Error("more of one wait than there is room for")
	}
	h.come("b")
	for _, who := range []string{"a", "b", "c"} {
		if _, err := h.take(who, false); err == nil {
			t.Errorf("%s is let into a full room", who)
		}
	}
}

func TestWhoStaysAwayIsForgotten(t *testing.T) {
	h := newHall(t, 2)
	h.come("b").leave()
	first, second, third := h.come("a"), h.come("a"), h.come("a")
	if !inside(first) || inside(second) {
		t.Fatal("a has not one of two places")
	}
	h.clock = h.clock.Add(companyTime)
	first.leave()
	if !inside(second) || !inside(third) {
		t.Error("a place is kept for somebody who was last here long ago")
	}
}

// Who comes when all is taken gets the next place, and the one who was alone no more
// than the rest from then on.
func TestWhoJoinsWaitsOnce(t *testing.T) {
	h := newHall(t, 2)
	var crowd []*ticket
	for range 5 {
		crowd = append(crowd, h.come("a"))
	}
	b := h.come("b")
	crowd[0].leave()
	if !inside(b) || inside(crowd[2]) {
		t.Fatal("the free place is not b's")
	}
	b.leave()
	if inside(crowd[2]) {
		t.Error("a has all places again at once")
	}
	if !inside(h.come("b")) {
		t.Error("b waits again")
	}
}

// The node's own jobs are bound by nothing, and bind nobody.
func TestOwnJobsKeepNoPlace(t *testing.T) {
	h := newHall(t, 2)
	h.come(ownJobs).leave()
	a := []*ticket{h.come("a"), h.come("a")}
	if !inside(a[1]) {
		t.Error("a place is kept for the node itself")
	}
	a[0].leave()
	a[1].leave()
	for range 2 {
		if !inside(h.come(ownJobs)) {
			t.Error("the node's own jobs leave a place to others")
		}
	}
}

func TestOnePlaceIsShared(t *testing.T) {
	h := newHall(t, 1)
	a, b := h.come("a"), h.come("b")
	if !inside(a) || inside(b) {
		t.Fatal("one place for two")
	}
	if a.leave(); !inside(b) {
		t.Error("b is not next")
	}
}
