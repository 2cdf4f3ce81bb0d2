package node

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/klauspost/compress/zstd"
)

// packContents tells, before any file, which files a pack holds.
type packContents struct {
	// Indexes are the files that follow as they are, rising.
	Indexes []int `json:"indexes,omitempty"`
	// Base is the release that Groups begin from.
	Base *Base `json:"base,omitempty"`
	// Groups follow after the single files.
	Groups []packGroup `json:"groups,omitempty"`
}

// packGroup is some files in one frame of zstd whose dictionary is files of another
// release, one after the other. A frame for each file would cost each its beginning; one
// for all would need the memory of all.
type packGroup struct {
	// Files are places in the manifest, rising.
	Files []int `json:"f"`
	// From are places in the manifest of the base, in the order of the dictionary.
	From []int `json:"b"`
	// Modified are the files' times, in seconds of the epoch; one for all if they are the
	// same.
	Modified []int64 `json:"t"`
}

const (
	// groupBytes is where a group ends, in bytes of its files or of its dictionary: what
	// the encoder's table of places can still find again.
	groupBytes = 1 << 20
	// patchBytes is the largest file that is sent as what differs, or that others begin
	// from. Twice as much is the largest window of a frame, and the memory that a node
	// needs for it.
	patchBytes = 12 << 20
	// dictionary is the number under which a frame names its dictionary.
	dictionary = 1
	// maxWindow bounds the memory that a frame may ask for, in bytes.
	maxWindow = 32 << 20
)

func (g packGroup) modified(n int) time.Time {
	if len(g.Modified) == 1 {
		n = 0
	}
	return time.Unix(g.Modified[n], 0)
}

// planPack decides how each file is sent.
func planPack(ctx context.Context, in PackIn, files []Entry, base *baseManifest) (packContents, error) {
	if base == nil {
		return packContents{Indexes: in.Indexes}, nil
	}
	out := packContents{Base: &Base{Release: in.Base.Release, Digest: in.Base.Digest}}
	from, err := in.kin(ctx, files, base)
	if err != nil {
		return out, err
	}
	var g packGroup
	var size, dict int64
	in0 := map[int]bool{}
	end := func() {
		if len(g.Files) > 0 {
			out.Groups = append(out.Groups, g)
		}
		g, size, dict, in0 = packGroup{}, 0, 0, map[int]bool{}
	}
	for _, i := range in.Indexes {
		k, ok := from[i]
		if !ok {
			out.Indexes = append(out.Indexes, i)
			continue
		}
		more := base.Files[k].Size
		if in0[k] {
			more = 0
		}
		if size+files[i].Size > groupBytes || dict+more > groupBytes {
			end()
			more = base.Files[k].Size
		}
		g.Files = append(g.Files, i)
		size += files[i].Size
		if !in0[k] {
			g.From, in0[k] = append(g.From, k), true
			dict += more
		}
	}
	end()
	return out, timeGroups(in.Root, files, out.Groups)
}

// kin finds, for each file to be sent, the file of the base that it begins from, and
// makes sure that it is unharmed here: a receiver could not tell the harm of the one from
// that of the other.
func (in PackIn) kin(ctx context.Context, files []Entry, base *baseManifest) (map[int]int, error) {
	k := newKin(base.Files, in.Base.Without)
	from := map[int]int{}
	bases := map[int]bool{}
	var list []int
	for _, i := range in.Indexes {
		j, ok := k.of(files[i])
		if !ok || files[i].Size == 0 || files[i].Size > patchBytes || base.Files[j].Size > patchBytes {
			continue
		}
		from[i] = j
		if !bases[j] {
			bases[j] = true
			list = append(list, j)
		}
	}
	sound, err := soundFiles(ctx, base, list)
	if err != nil {
		return nil, err
	}
	for i, j := range from {
		if !sound[j] {
			delete(from, i)
		}
	}
	return from, nil
}

// soundFiles tells which files of a release have the content that its manifest says.
func soundFiles(ctx context.Context, base *baseManifest, list []int) (map[int]bool, error) {
	ok := make([]bool, len(list))
	err := each(ctx, len(list), func(n int, buf []byte) error {
		e := base.Files[list[n]]
		file := filepath.Join(base.root, e.Path)
		if fi, err := os.Lstat(file); err != nil || !fi.Mode().IsRegular() || fi.Size() != e.Size {
			return nil
		}
		sum, _, err := hashFile(file, buf)
		ok[n] = err == nil && sum == e.SHA256 // one that cannot be read is not sound
		return nil
	})
	sound := make(map[int]bool, len(list))
	for n, i := range list {
		if ok[n] {
			sound[i] = true
		}
	}
	return sound, err
}

// timeGroups notes when the files of each group were modified.
func timeGroups(root string, files []Entry, groups []packGroup) error {
	for n := range groups {
		g := &groups[n]
		same := true
		for _, i := range g.Files {
			fi, err := os.Lstat(filepath.Join(root, files[i].Path))
			if err != nil {
				return err
			}
			g.Modified = append(g.Modified, fi.ModTime().Unix())
			same = same && g.Modified[0] == fi.ModTime().Unix()
		}
		if same {
			g.Modified = g.Modified[:1]
		}
	}
	return nil
}

// groupPacker writes groups. It keeps its encoders: to make one costs more than to use it.
type groupPacker struct {
	small, large *zstd.Encoder
	data, dict   []byte
	frame        []byte
}

func newEncoder(window int) (*zstd.Encoder, error) {
	return zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBetterCompression), zstd.WithEncoderConcurrency(1),
		zstd.WithWindowSize(window), zstd.WithLowerEncoderMem(true), zstd.WithEncoderDictRaw(dictionary, []byte("refit")))
}

// write writes the group of a number.
func (p *groupPacker) write(t *tar.Writer, n int, g packGroup, root string, files []Entry, base *baseManifest) error {
	var err error
	if p.data, err = readAll(p.data[:0], root, files, g.Files); err != nil {
		return err
	}
	if p.dict, err = readAll(p.dict[:0], base.root, base.Files, g.From); err != nil {
		return err
	}
	// The window must reach from the last byte to the dictionary's first.
	z := &p.small
	window := 4 << 20
	if len(p.data)+len(p.dict) > window {
		z, window = &p.large, maxWindow
	}
	if *z == nil {
		if *z, err = newEncoder(window); err != nil {
			return err
		}
	}
	if err := (*z).ResetWithOptions(nil, zstd.WithEncoderDictRaw(dictionary, p.dict)); err != nil {
		return err
	}
	p.frame = (*z).EncodeAll(p.data, p.frame[:0])
	return packBytes(t, groupName(n), p.frame)
}

func groupName(n int) string { return "g" + strconv.Itoa(n) }

// readAll appends files, one after the other.
func readAll(to []byte, root string, files []Entry, list []int) ([]byte, error) {
	for _, i := range list {
		e := files[i]
		b, err := os.ReadFile(filepath.Join(root, e.Path))
		if err != nil {
			return nil, err
		}
		if int64(len(b)) != e.Size {
			return nil, Failf(CodePayload, "%s has %d bytes and the manifest says %d: the release was changed after it was built", e.Path, len(b), e.Size)
		}
		to = append(to, b...)
	}
	return to, nil
}

// check refuses contents that do not fit the manifests, or that ask for more memory than
// any that this code makes.
func (c packContents) check(files []Entry, base *baseManifest) error {
	if err := checkIndexes(c.Indexes, files); err != nil {
		return err
	}
	seen := make(map[int]bool, len(c.Indexes))
	for _, i := range c.Indexes {
		seen[i] = true
	}
	if len(c.Groups) > 0 && base == nil {
		return errors.New("it has groups of files and names no release that they begin from")
	}
	for n, g := range c.Groups {
		if err := checkIndexes(g.Files, files); err != nil {
			return err
		}
		if len(g.Files) == 0 || len(g.Modified) != len(g.Files) && len(g.Modified) != 1 {
			return fmt.Errorf("group %d has %d files and %d times", n, len(g.Files), len(g.Modified))
		}
		for _, i := range g.Files {
			if seen[i] {
				return fmt.Errorf("file %d comes twice", i)
			}
			seen[i] = true
		}
		var size int64
		for _, i := range g.From {
			if i < 0 || i >= len(base.Files) || !base.Files[i].Regular() {
				return fmt.Errorf("group %d begins from a file %d that %s does not have", n, i, base.Release)
			}
			if size += base.Files[i].Size; size > maxWindow {
				return fmt.Errorf("group %d begins from more than %d bytes", n, maxWindow)
			}
		}
	}
	return nil
}

// openGroup gives the files of a group, one after the other.
func openGroup(r io.Reader, g packGroup, base *baseManifest) (*zstd.Decoder, error) {
	dict, err := readAll(nil, base.root, base.Files, g.From)
	if err != nil {
		return nil, Failf(CodePayload, "the file that a part of the pack begins from changed while it was placed: %v", err)
	}
	return zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderDictRaw(dictionary, dict))
}
