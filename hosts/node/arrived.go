package node

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// arrived is where the contents of a pack lie, each under its hash, from when it was
// verified until the release is whole. They outlive a call that fails, and whatever ends
// the host: the next call hashes them again before it uses them.
func (s shelf) arrived(name string) string { return s.temp("arrived", name) }

// keepArrived leaves what arrived for the next call, but where the disk was full: then
// room is worth more.
func keepArrived(dir string, why error) error {
	if errors.Is(why, syscall.ENOSPC) || errors.Is(why, syscall.EDQUOT) {
		return os.RemoveAll(dir)
	}
	if err := removeIfThere(partFile(dir)); err != nil {
		return err
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTEMPTY) && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// partFile is the one that is being written.
func partFile(dir string) string { return filepath.Join(dir, "part") }

// readNames lists a directory that may not exist.
func readNames(dir string) ([]string, error) {
	if dir == "" {
		return nil, nil
	}
	f, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

// harmed refuses a pack that begins from files that are not what their manifest says,
// before anything of it is read.
func (p *placing) harmed(ctx context.Context) error {
	groups := p.pack.holds.Groups
	if len(groups) == 0 {
		return nil
	}
	var all []int
	seen := map[int]bool{}
	for _, g := range groups {
		for _, i := range g.From {
			if !seen[i] {
				seen[i] = true
				all = append(all, i)
			}
		}
	}
	base := p.pack.base
	sound, err := soundFiles(ctx, base, all)
	if err != nil {
		return err
	}
	var bad string
	for _, g := range groups {
		for _, i := range g.From {
			if !sound[i] {
				bad = filepath.Join(base.Release, base.Files[i].Path)
				p.out.Lacking = append(p.out.Lacking, g.Files...)
				break
			}
		}
	}
	if bad == "" {
		return nil
	}
	return Failf(CodePayload, "the pack begins from %s among others, which is harmed on this host: %d files must come whole", bad, len(p.out.Lacking))
}

// unpack takes the contents of the pack, verifies each, and adds them to found. It
// reads no further than the pack's end.
func (p *placing) unpack(ctx context.Context, found map[string]string) error {
	if err := os.MkdirAll(p.arrived, 0o700); err != nil {
		return err
	}
	buf := make([]byte, 128<<10)
	for _, i := range p.pack.holds.Indexes {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		r, modified, err := p.pack.next(strconv.Itoa(i), i)
		if err != nil {
			return err
		}
		if err := p.arrive(i, r, modified, found, buf); err != nil {
			return err
		}
	}
	for n, g := range p.pack.holds.Groups {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := p.unpackGroup(n, g, found, buf); err != nil {
			return err
		}
	}
	return p.pack.ended()
}

func (p *placing) unpackGroup(n int, g packGroup, found map[string]string, buf []byte) error {
	first := p.files[g.Files[0]].Path
	r, _, err := p.pack.next(groupName(n), g.Files[0])
	if err != nil {
		return err
	}
	z, err := openGroup(r, g, p.pack.base)
	if err != nil {
		return err
	}
	defer z.Close()
	for k, i := range g.Files {
		if err := p.arrive(i, io.LimitReader(z, p.files[i].Size), g.modified(k), found, buf); err != nil {
			return err
		}
	}
	if k, err := z.Read(make([]byte, 1)); k > 0 || !errors.Is(err, io.EOF) {
		return Failf(CodePayload, "the group of files that begins with %s does not end where its last file does (%v)", first, err)
	}
	return nil
}

// unpacked tells what is wrong with a pack from what is wrong with the host.
type unpacked struct{ r io.Reader }

func (u unpacked) Read(b []byte) (int, error) {
	n, err := u.r.Read(b)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		err = Failf(CodePayload, "the pack is damaged, or broke off: %v", err)
	}
	return n, err
}

// arrive writes one content, and gives it its name once it was verified.
func (p *placing) arrive(i int, r io.Reader, modified time.Time, found map[string]string, buf []byte) error {
	e := p.files[i]
	part := partFile(p.arrived)
	if err := removeIfThere(part); err != nil {
		return err
	}
	if err := writeContent(part, e, unpacked{r}, p.when(e.Path, modified), buf); err != nil {
		return err
	}
	at := filepath.Join(p.arrived, e.SHA256)
	if err := os.Rename(part, at); err != nil {
		return err
	}
	found[e.SHA256] = at
	p.out.Sent++
	return nil
}
