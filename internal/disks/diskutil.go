package disks

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// What follows reads the property lists that macOS's diskutil prints. It is built
// everywhere, so that it can be tested everywhere.

// errPlist is any property list that is not as diskutil writes them.
var errPlist = errors.New("disks: not a property list as diskutil writes them")

// maxPlistDepth bounds nesting; diskutil's lists have five levels.
const maxPlistDepth = 32

// parsePlist reads an XML property list: dictionaries become map[string]any, arrays
// []any, and the rest string, int64 or bool.
func parsePlist(data []byte) (any, error) {
	d := xml.NewDecoder(bytes.NewReader(data))
	for {
		token, err := d.Token()
		if err != nil {
			return nil, errPlist
		}
		if start, ok := token.(xml.StartElement); ok && start.Name.Local != "plist" {
			return plistValue(d, start, maxPlistDepth)
		}
	}
}

// plistValue reads the rest of an element that has begun.
func plistValue(d *xml.Decoder, start xml.StartElement, depth int) (any, error) {
	if depth == 0 {
		return nil, errPlist
	}
	switch start.Name.Local {
	case "dict":
		return plistDict(d, depth)
	case "array":
		return plistArray(d, depth)
	case "true", "false":
		return start.Name.Local == "true", d.Skip()
	}
	text, err := plistText(d)
	if err != nil || start.Name.Local != "integer" {
		return text, err
	}
	n, err := strconv.ParseInt(strings.TrimSpace(text), 0, 64)
	if err != nil {
		return nil, errPlist
	}
	return n, nil
}

func plistDict(d *xml.Decoder, depth int) (map[string]any, error) {
	out := map[string]any{}
	for {
		start, err := plistNext(d)
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil || start.Name.Local != "key" {
			return nil, errPlist
		}
		key, err := plistText(d)
		if err != nil {
			return nil, err
		}
		if start, err = plistNext(d); err != nil {
			return nil, errPlist
		}
		if out[key], err = plistValue(d, start, depth-1); err != nil {
			return nil, err
		}
	}
}

func plistArray(d *xml.Decoder, depth int) ([]any, error) {
	var out []any
	for {
		start, err := plistNext(d)
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, errPlist
		}
		v, err := plistValue(d, start, depth-1)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
}

// plistNext is the next element inside; io.EOF where the one around it ends.
func plistNext(d *xml.Decoder) (xml.StartElement, error) {
	for {
		token, err := d.Token()
		if err != nil {
			return xml.StartElement{}, errPlist
		}
		switch t := token.(type) {
		case xml.StartElement:
			return t, nil
		case xml.EndElement:
			return xml.StartElement{}, io.EOF
		}
	}
}

// plistText is the text up to the end of the element.
func plistText(d *xml.Decoder) (string, error) {
	var b strings.Builder
	for {
		token, err := d.Token()
		if err != nil {
			return "", errPlist
		}
		switch t := token.(type) {
		case xml.CharData:
			b.Write(t)
		case xml.EndElement:
			return b.String(), nil
		case xml.StartElement:
			return "", errPlist
		}
	}
}

// parseWholeDisks reads the names of all disks from "diskutil list -plist".
func parseWholeDisks(list []byte) ([]string, error) {
	root, err := plistRoot(list)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, v := range values(root, "WholeDisks") {
		if name, ok := v.(string); ok {
			out = append(out, name)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%w: no WholeDisks", errPlist)
	}
	return out, nil
}

// content is what "diskutil list -plist" says of one disk.
type content struct {
	partitions []Partition
	uses       []Use
}

// parseMountPoints reads what is on each disk and where it is mounted. The physical
// store of an APFS container is used by what is mounted of the container.
func parseMountPoints(list []byte) (map[string]content, error) {
	root, err := plistRoot(list)
	if err != nil {
		return nil, err
	}
	out, stores := map[string]content{}, map[string]string{}
	for _, v := range values(root, "AllDisksAndPartitions") {
		disk, _ := v.(map[string]any)
		name := str(disk, "DeviceIdentifier")
		c := content{uses: mountOf(disk)}
		for _, key := range []string{"Partitions", "APFSVolumes"} {
			for _, v := range values(disk, key) {
				part, _ := v.(map[string]any)
				size, _ := part["Size"].(int64)
				c.partitions = append(c.partitions, Partition{Name: str(part, "DeviceIdentifier"), Size: size, Label: str(part, "VolumeName"), FileSystem: str(part, "Content")})
				c.uses = append(c.uses, mountOf(part)...)
			}
		}
		for _, v := range values(disk, "APFSPhysicalStores") {
			store, _ := v.(map[string]any)
			stores[str(store, "DeviceIdentifier")] = name
		}
		out[name] = c
	}
	for store, container := range stores {
		for name, c := range out {
			if strings.HasPrefix(store, name+"s") {
				c.uses = append(c.uses, out[container].uses...)
				out[name] = c
			}
		}
	}
	return out, nil
}

// systemVolumes are where macOS keeps itself.
const systemVolumes = "/System/Volumes/"

func mountOf(node map[string]any) []Use {
	point := str(node, "MountPoint")
	if point == "" {
		return nil
	}
	return []Use{{Kind: Mounted, Node: str(node, "DeviceIdentifier"), What: point, System: isSystem(point) || strings.HasPrefix(point, systemVolumes)}}
}

// parseDiskInfo reads "diskutil info -plist diskN".
func parseDiskInfo(info []byte) (Disk, error) {
	root, err := plistRoot(info)
	if err != nil {
		return Disk{}, err
	}
	size, _ := root["TotalSize"].(int64)
	sector, _ := root["DeviceBlockSize"].(int64)
	writable, known := root["WritableMedia"].(bool)
	removable, _ := root["RemovableMedia"].(bool)
	ejectable, _ := root["Ejectable"].(bool)
	d := Disk{
		Name: str(root, "DeviceIdentifier"), Model: str(root, "MediaName"), Size: size, SectorSize: int(sector),
		Removable: removable || ejectable, ReadOnly: known && !writable, Bus: SCSI,
	}
	d.Path = "/dev/" + d.Name
	if d.Name == "" || size < 0 {
		return Disk{}, fmt.Errorf("%w: a disk without name or size", errPlist)
	}
	switch protocol := str(root, "BusProtocol"); {
	case str(root, "VirtualOrPhysical") == "Virtual" || protocol == "Disk Image":
		d.Bus = Virtual
	case protocol == "USB":
		d.Bus = USB
	case protocol == "Secure Digital":
		d.Bus = SD
	case strings.HasPrefix(protocol, "PCI") || protocol == "Apple Fabric":
		d.Bus = NVMe
	case protocol == "SATA" || protocol == "ATA":
		d.Bus = ATA
	}
	if internal, ok := root["Internal"].(bool); ok && internal && d.Bus != SD {
		d.Removable = false
	}
	return d, nil
}

func plistRoot(data []byte) (map[string]any, error) {
	v, err := parsePlist(data)
	if err != nil {
		return nil, err
	}
	root, ok := v.(map[string]any)
	if !ok {
		return nil, errPlist
	}
	return root, nil
}

func values(m map[string]any, key string) []any {
	v, _ := m[key].([]any)
	return v
}

func str(m map[string]any, key string) string {
	s, _ := m[key].(string)
	return s
}
