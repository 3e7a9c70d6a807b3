package appliance

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"context"
	_ "embed"
	"io"
	"os"
	"text/template"

	"github.com/phasebased/phase/internal/diskformat"
)

//go:embed config.plist
var utmConfig string

// utmMachine fills config.plist, of which UTM 4 requires every key that is there.
type utmMachine struct {
	Name, ID, DiskID, MAC               string
	Architecture, Target, Display, Disk string
	Memory                              int
}

// WriteUTM writes a zip archive that holds one UTM bundle: QEMU's back end, UEFI,
// a QCOW2 disk on virtio. It is zipped because a bundle is a folder; Macs unpack
// it when it is downloaded or opened. UTM makes up the machine's firmware variables
// only when its settings are saved, so the bundle brings empty ones.
func WriteUTM(ctx context.Context, raw io.ReaderAt, size int64, c Config) error {
	if err := c.check(); err != nil {
		return err
	}
	const disk = "phase.qcow2"
	return c.withDisk(ctx, diskformat.QCOW2, raw, size, func(f *os.File, digest [32]byte) error {
		config, err := c.utmConfig(disk, digest)
		if err != nil {
			return err
		}
		return diskformat.Produce(c.Out, c.Replace, func(out *os.File) error {
			z := newZip(out, c)
			z.file("config.plist", zip.Deflate, func(w io.Writer) error { _, err := w.Write(config); return err })
			z.file("Data/efi_vars.fd", zip.Deflate, func(w io.Writer) error { return emptyVariables(w, c.Arch) })
			z.file("Data/"+disk, zip.Deflate, func(w io.Writer) error { _, err := io.Copy(w, f); return err })
			return z.close()
		})
	})
}

func (c *Config) utmConfig(disk string, digest [32]byte) ([]byte, error) {
	m := utmMachine{
		Name: c.Name, ID: identifier(digest, c.Name+" utm"), DiskID: identifier(digest, "utm disk"), Memory: c.Memory, Disk: disk,
		Architecture: "x86_64", Target: "q35", Display: "virtio-vga", MAC: address(digest),
	}
	if c.Arch == ARM64 {
		m.Architecture, m.Target, m.Display = "aarch64", "virt", "virtio-ramfb"
	}
	t, err := template.New("config.plist").Parse(utmConfig)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = t.Execute(&b, m)
	return b.Bytes(), err
}

// bundle is a zip archive with one folder. The first error is kept.
type bundle struct {
	z   *zip.Writer
	c   Config
	err error
}

func newZip(out io.Writer, c Config) *bundle {
	z := zip.NewWriter(out)
	z.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) {
		return flate.NewWriter(w, flate.BestSpeed) // most of a disk is compressed already
	})
	return &bundle{z: z, c: c}
}

func (b *bundle) file(name string, method uint16, write func(io.Writer) error) {
	if b.err != nil {
		return
	}
	header := &zip.FileHeader{Name: b.c.Name + ".utm/" + name, Method: method, Modified: b.c.Time.UTC()}
	header.SetMode(0o644)
	w, err := b.z.CreateHeader(header)
	if err == nil {
		err = write(w)
	}
	b.err = err
}

func (b *bundle) close() error {
	if b.err != nil {
		return b.err
	}
	return b.z.Close()
}
