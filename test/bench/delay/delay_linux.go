// Package delay joins two network namespaces by a wire on which every packet
// takes a fixed time, as netem would do it where a kernel lacks netem.
//
// A namespace's end of the wire is a TUN device. What the kernel sends into one
// of them is kept for the delay, in order and whatever its rate, and then handed
// to the other. Processes in the namespaces run on the bare processor, unlike in
// a virtual machine, and the kernel's own TCP talks over the wire. Nothing
// outlives the process that made it: the devices vanish with their descriptors,
// the namespaces with the last process in them.
//
// It needs CAP_SYS_ADMIN and CAP_NET_ADMIN, in practice root, and /dev/net/tun.
package delay

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	// device is the name of each end of the wire.
	device = "wire"
	mtu    = 1500
	// inFlight bounds the packets on their way in one direction; more are lost,
	// as in a router. It is 24 MB, and 500 MB/s at 50 ms.
	inFlight = 16 << 10
)

// A Wire is two namespaces joined.
type Wire struct {
	// Near is 10.77.0.1 to the other, and Far 10.77.0.2 and the addresses after
	// it. Apart from the wire they have a loopback interface, without delay.
	Near, Far *Namespace
	carrying  sync.WaitGroup
}

// New makes both namespaces and the wire, on which a packet takes oneWay. Far gets
// as many addresses as asked for, at most 250. The caller must Close it, after the
// processes in the namespaces have ended.
func New(oneWay time.Duration, addresses int) (*Wire, error) {
	if addresses < 1 || addresses > 250 {
		return nil, fmt.Errorf("delay: %d addresses", addresses)
	}
	first := netip.AddrFrom4([4]byte{10, 77, 0, 1})
	near, err := newNamespace(first, 1)
	if err != nil {
		return nil, err
	}
	far, err := newNamespace(first.Next(), addresses)
	if err != nil {
		near.close()
		return nil, err
	}
	w := &Wire{Near: near, Far: far}
	w.carrying.Go(func() { carry(near.tun, far.tun, oneWay, inFlight) })
	w.carrying.Go(func() { carry(far.tun, near.tun, oneWay, inFlight) })
	return w, nil
}

// Close cuts the wire and lets go of the namespaces.
func (w *Wire) Close() error {
	err := errors.Join(w.Near.close(), w.Far.close())
	w.carrying.Wait()
	return err
}

// packet is one on its way.
type packet struct {
	data []byte
	due  time.Time
}

// carry takes packets from one end to the other, at most bound at a time, until
// from is closed.
func carry(from io.Reader, to io.Writer, oneWay time.Duration, bound int) {
	way := make(chan packet, bound)
	var arriving sync.WaitGroup
	arriving.Go(func() {
		for p := range way {
			time.Sleep(time.Until(p.due))
			_, _ = to.Write(p.data) // one that is refused is lost, as on any wire
		}
	})
	defer arriving.Wait()
	defer close(way)
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		select {
		case way <- packet{append([]byte(nil), buffer[:n]...), time.Now().Add(oneWay)}:
		default:
		}
	}
}

// A Namespace is a network of its own with one end of a wire.
type Namespace struct {
	// Addr is its first address on the wire.
	Addr netip.Addr

	tun   *os.File
	tasks chan task
}

type task struct {
	do   func() error
	done chan error
}

func newNamespace(first netip.Addr, addresses int) (*Namespace, error) {
	n := &Namespace{Addr: first, tasks: make(chan task)}
	go n.live()
	err := n.Do(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("delay: new network namespace: %w", err)
		}
		return n.setUp(addresses)
	})
	if err != nil {
		return nil, errors.Join(err, n.close())
	}
	return n, nil
}

// live is the namespace's thread. It is never given back, so that it ends, and
// takes the namespace with it.
func (n *Namespace) live() {
	runtime.LockOSThread()
	for t := range n.tasks {
		t.done <- t.do()
	}
}

// Do runs f on a thread in the namespace. Processes that f starts and sockets
// that it opens belong to the namespace for good; goroutines that it starts do
// not.
func (n *Namespace) Do(f func() error) error {
	t := task{f, make(chan error, 1)}
	n.tasks <- t
	return <-t.done
}

func (n *Namespace) setUp(addresses int) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("delay: loopback: %w", err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = device, mtu
	tun := &netlink.Tuntap{
		LinkAttrs: attrs, Mode: netlink.TUNTAP_MODE_TUN, Flags: netlink.TUNTAP_NO_PI, NonPersist: true, Queues: 1,
	}
	if err := netlink.LinkAdd(tun); err != nil {
		return fmt.Errorf("delay: make a TUN device: %w", err)
	}
	n.tun = tun.Fds[0]
	for i, a := 0, n.Addr; i < addresses; i, a = i+1, a.Next() {
		address, err := netlink.ParseAddr(netip.PrefixFrom(a, 24).String())
		if err != nil {
			return fmt.Errorf("delay: address: %w", err)
		}
		if err := netlink.AddrAdd(tun, address); err != nil {
			return fmt.Errorf("delay: address %v: %w", a, err)
		}
	}
	if err := errors.Join(netlink.LinkSetUp(lo), netlink.LinkSetUp(tun)); err != nil {
		return fmt.Errorf("delay: set up the wire: %w", err)
	}
	return nil
}

func (n *Namespace) close() error {
	close(n.tasks)
	if n.tun == nil {
		return nil
	}
	return n.tun.Close()
}
