package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/phasebased/phase/internal/disks"
	"github.com/phasebased/phase/internal/stick"
	"github.com/phasebased/phase/internal/term"
)

func newImageDevices() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use: "devices", Short: "List the disks of this machine, and which of them can be written to", Args: noArgs,
		Long: `Lists the disks of this machine: what they are, what is on them, and whether
phase image write would take them. It changes nothing. As an ordinary user it
may see less of what is on a disk, and of what others use.`,
		Example: "  phase image devices\n  phase image devices --format json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkFormat(format); err != nil {
				return err
			}
			return listDevices(cmd.Context(), cmd.OutOrStdout(), format)
		},
	}
	cmd.Flags().StringVarP(&format, "format", "f", "text", "text or json")
	return cmd
}

// device is a disk as image devices shows it; its JSON form is for programs.
type device struct {
	Path       string            `json:"path"`
	Size       int64             `json:"size"`
	Bus        string            `json:"bus"`
	Vendor     string            `json:"vendor,omitempty"`
	Model      string            `json:"model,omitempty"`
	SerialTail string            `json:"serial_tail,omitempty"`
	Removable  bool              `json:"removable"`
	FileSystem string            `json:"file_system,omitempty"` // without partitions
	FSLabel    string            `json:"fs_label,omitempty"`
	Partitions []devicePartition `json:"partitions"`
	Uses       []deviceUse       `json:"uses"`
	Writable   bool              `json:"writable"`
	Confirm    string            `json:"confirm"` // the word for image write
	Code       string            `json:"code,omitempty"`
	Refused    string            `json:"refused,omitempty"`
}

type devicePartition struct {
	Name       string `json:"name"`
	Offset     int64  `json:"offset"`
	Size       int64  `json:"size"`
	Label      string `json:"label,omitempty"`
	FileSystem string `json:"file_system,omitempty"`
	FSLabel    string `json:"fs_label,omitempty"`
}

type deviceUse struct {
	Kind   string `json:"kind"`
	Node   string `json:"node"`
	What   string `json:"what"`
	System bool   `json:"system"`
}

func newDevice(d disks.Disk) device {
	v := device{
		Path: d.Path, Size: d.Size, Bus: string(d.Bus), Vendor: d.Vendor, Model: d.Model, SerialTail: d.SerialTail(),
		Removable: d.Removable, FileSystem: d.FileSystem, FSLabel: d.FSLabel, Partitions: []devicePartition{}, Uses: []deviceUse{}, Confirm: stick.Word(d),
	}
	for _, p := range d.Partitions {
		v.Partitions = append(v.Partitions, devicePartition(p))
	}
	for _, u := range d.Uses {
		v.Uses = append(v.Uses, deviceUse{string(u.Kind), u.Node, u.What, u.System})
	}
	err := stick.Check(d, "", 0, stick.Allow{})
	v.Writable = err == nil
	if refused := (*stick.Error)(nil); errors.As(err, &refused) {
		v.Code, v.Refused = refused.Code(), refused.Text
	}
	return v
}

func listDevices(ctx context.Context, out io.Writer, format string) error {
	found, err := disks.List(ctx)
	if errors.Is(err, errors.ErrUnsupported) {
		return &stick.Error{Reason: stick.Unsupported, Path: "this system", Text: "has disks that this program does not know: it knows those of Linux and macOS only"}
	}
	if err != nil {
		return err
	}
	if format == "json" {
		all := []device{}
		for _, d := range found {
			all = append(all, newDevice(d))
		}
		return writeJSON(out, all)
	}
	return devicesText(out, found)
}

// devicesText writes a table of what can be written to, then of the rest.
func devicesText(out io.Writer, found []disks.Disk) error {
	var can, cannot []disks.Disk
	for _, d := range found {
		switch {
		case stick.Check(d, "", 0, stick.Allow{}) == nil:
			can = append(can, d)
		case d.Bus != disks.Virtual:
			cannot = append(cannot, d)
		}
	}
	if len(can) == 0 {
		fmt.Fprintln(out, "No device can be written to as it is: plug a stick in.")
	} else if err := table(out, "CAN BE WRITTEN TO", can, holds); err != nil {
		return err
	}
	if len(cannot) == 0 {
		return nil
	}
	fmt.Fprintln(out)
	return table(out, "CAN NOT", cannot, func(d disks.Disk) string { return newDevice(d).Refused })
}

func table(out io.Writer, title string, found []disks.Disk, last func(disks.Disk) string) error {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	heading := "HOLDS"
	if title == "CAN NOT" {
		heading = "BECAUSE IT"
	}
	fmt.Fprintf(t, "%s\tSIZE\tBUS\tMODEL\tSERIAL\t%s\n", title, heading)
	for _, d := range found {
		serial := ""
		if d.SerialTail() != "" {
			serial = "..." + d.SerialTail()
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", d.Path, term.Bytes(d.Size), d.Bus, term.Clean(d.Title()), term.Clean(serial), term.Clean(last(d)))
	}
	return t.Flush()
}

// holds says in a few words what is on a disk.
func holds(d disks.Disk) string {
	var out []string
	for _, p := range d.Partitions {
		name := strings.TrimSpace(p.FileSystem + " " + cmp.Or(p.FSLabel, p.Label))
		if name == "" {
			name = term.Bytes(p.Size)
		}
		out = append(out, name)
	}
	if len(out) == 0 && d.FileSystem != "" {
		return strings.TrimSpace(d.FileSystem+" "+d.FSLabel) + ", without partitions"
	}
	if len(out) == 0 {
		return "nothing that is known here"
	}
	return strings.Join(out, ", ")
}
