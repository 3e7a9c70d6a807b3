package kmod

import (
	"slices"
	"testing"
)

func TestFind(t *testing.T) {
	x := parse(map[string][]byte{
		fileDep: []byte(`kernel/drivers/net/ethernet/a/card-one.ko.xz: kernel/drivers/net/ethernet/a/lib.ko.xz
kernel/drivers/net/ethernet/a/lib.ko.xz:
kernel/drivers/net/ethernet/isa.ko:
kernel/drivers/net/ethernet/fibre.ko: kernel/drivers/scsi/scsi_transport_fc.ko
kernel/drivers/net/ethernet/built.ko:
kernel/drivers/net/ethernetx/other.ko:
kernel/drivers/scsi/hba.ko:
kernel/drivers/hid/keys.ko:
`),
		fileBuiltin: []byte("kernel/drivers/net/ethernet/inside.ko\n"),
		fileAlias: []byte(`alias pci:v00008086d00001234sv*sd*bc*sc*i* card_one
alias pci:* fibre
alias isapnp:x isa
alias of:N*T*Cvendor,other other
alias pci:v0000CAFEd* hba
alias pci:v0000CAFEd* inside
alias usb:v1* hba
alias [broken hba
`),
	})
	ethernet := Class{Dir: "kernel/drivers/net/ethernet", Buses: []string{"pci", "of"}, Without: []string{"scsi_transport_fc"}}
	for _, c := range []struct {
		name    string
		classes []Class
		want    []string
	}{
		{"none", nil, nil},
		{"by bus, without", []Class{ethernet}, []string{"card_one"}},
		{"slash at the end", []Class{{Dir: "kernel/drivers/net/ethernet/", Buses: []string{"isapnp"}}}, []string{"isa"}},
		{"all of a folder", []Class{{Dir: "kernel/drivers/net/ethernet"}}, []string{"built", "card_one", "fibre", "isa", "lib"}},
		{"several, each once", []Class{ethernet, {Dir: "kernel/drivers/scsi", Buses: []string{"usb", "pci"}}, ethernet}, []string{"card_one", "hba"}},
		{"no such folder", []Class{{Dir: "kernel/sound"}}, nil},
	} {
		if got := x.Find(c.classes...); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
