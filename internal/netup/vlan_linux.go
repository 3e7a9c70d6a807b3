package netup

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// vlanModule is the kernel's module for VLANs (IEEE 802.1Q), where it is one.
const vlanModule = "8021q"

var errForeignLink = errors.New("a link of this name exists and is another one")

// vlansOf are the configured VLANs that name this interface.
func (m *Manager) vlansOf(attrs *netlink.LinkAttrs) (out []*Interface) {
	for n := range m.cfg.Interfaces {
		if c := &m.cfg.Interfaces[n]; c.VLAN > 0 && c.is(attrs) {
			out = append(out, c)
		}
	}
	return out
}

// trunk reports whether an interface only carries VLANs: nothing was said about
// what comes without a tag. It is called with the manager's lock held.
func (i *iface) trunk() bool { return i.cfg == nil && len(i.vlans) > 0 }

// makeVLANs makes the links of an interface's VLANs. The kernel's news of them
// comes later, to the goroutine that calls this.
func (i *iface) makeVLANs() {
	if len(i.vlans) == 0 {
		return
	}
	if i.cfg == nil {
		// Routers out there are not for us. A kernel without IPv6 has no file.
		_ = writeSetting(filepath.Join("/proc/sys/net/ipv6/conf", i.name(), "disable_ipv6"), "1")
	}
	for _, c := range i.vlans {
		index, err := i.makeVLAN(c.VLAN)
		if err != nil {
			step := fmt.Sprintf("VLAN %d", c.VLAN)
			i.fail(step, &stepError{NotConfigured, "making its link", err})
			continue
		}
		i.m.update(func() { i.m.vlans[index] = c })
	}
}

// makeVLAN makes one link, or takes over what an earlier run has left.
func (i *iface) makeVLAN(id int) (index int, err error) {
	name := vlanName(i.name(), id)
	link := &netlink.Vlan{LinkAttrs: netlink.LinkAttrs{Name: name, ParentIndex: i.index}, VlanId: id, VlanProtocol: netlink.VLAN_PROTOCOL_8021Q}
	err = netlink.LinkAdd(link)
	if load := i.m.cfg.LoadModule; errors.Is(err, unix.EOPNOTSUPP) && load != nil {
		if err := load(vlanModule); err != nil {
			return 0, fmt.Errorf("driver %s: %w", vlanModule, err)
		}
		err = netlink.LinkAdd(link)
	}
	switch {
	case errors.Is(err, unix.EOPNOTSUPP):
		return 0, errors.New("this kernel has no VLANs (" + vlanModule + ")")
	case err != nil && !errors.Is(err, unix.EEXIST):
		return 0, err
	}
	made, err := netlink.LinkByName(name)
	if err != nil {
		return 0, err
	}
	if v, ok := made.(*netlink.Vlan); !ok || v.VlanId != id || v.ParentIndex != i.index {
		return 0, errForeignLink
	}
	return made.Attrs().Index, nil
}

// vlanName is the usual "eth0.42", or "vlan42" where that is too long for the
// kernel.
func vlanName(parent string, id int) string {
	if name := parent + "." + strconv.Itoa(id); len(name) < unix.IFNAMSIZ {
		return name
	}
	return "vlan" + strconv.Itoa(id)
}

// removeVLAN removes a link we made; one that is gone is no failure.
func removeVLAN(index int) error {
	link, err := netlink.LinkByIndex(index)
	if err != nil {
		return nil
	}
	if err := netlink.LinkDel(link); err != nil && !errors.Is(err, unix.ENODEV) {
		return &stepError{NotConfigured, link.Attrs().Name + ": removing the VLAN", err}
	}
	return nil
}
