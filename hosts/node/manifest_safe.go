package node

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path"
	"strings"
)

// maxLinks is how many symbolic links are followed one after the other; the kernel
// follows 40 and then refuses (path_resolution(7)).
const maxLinks = 255

// checkEntry tells why an entry could not be placed safely whatever its path; "" if it could.
func checkEntry(e Entry) string {
	switch {
	case e.Dir && e.Link != "":
		return "is a directory and a link"
	case !e.Regular() && (e.SHA256 != "" || e.Size != 0):
		return "has content and is no file"
	case e.Link != "" && e.Mode != 0:
		return "is a link with a mode"
	case e.Size < 0:
		return fmt.Sprintf("has %d bytes", e.Size)
	case e.Mode&0o022 != 0:
		return fmt.Sprintf("can be written by others than root (mode %#o)", e.Mode)
	case strings.ContainsRune(e.Link, 0):
		return "is a link to a name that cannot be"
	case reserved(e.Path) || strings.HasPrefix(e.Path, metaDir+"/"+tempPrefix):
		return "is a name that refit keeps for itself"
	case e.Path == metaDir && !e.Dir:
		return "is no directory"
	}
	if e.Regular() {
		if sum, err := hex.DecodeString(e.SHA256); err != nil || hex.EncodeToString(sum) != e.SHA256 {
			return "has a hash that is none"
		}
	}
	return ""
}

// links are a manifest's symbolic links, by path.
type links map[string]string

// leadsOut tells whether a link leads out of its release, by itself or over others.
func (l links) leadsOut(file string) bool {
	if runtimeLink(file, l[file]) {
		return false
	}
	left := maxLinks
	_, out := l.follow(splitPath(path.Dir(file)), l[file], &left)
	return out
}

// runtimeLink tells whether a link is one by which a release names its Ruby or its Node,
// which lie outside: directly in .refit, to a clean absolute path.
func runtimeLink(file, to string) bool {
	return path.Dir(file) == metaDir && path.IsAbs(to) && path.Clean(to) == to && to != "/"
}

// follow goes from a directory of the release, given by its parts, to a link's target, as
// the kernel does: part by part, each link that it meets followed where it stands. A
// circle ends nowhere, so it does not lead out.
func (l links) follow(at []string, to string, left *int) (end []string, out bool) {
	if path.IsAbs(to) {
		return nil, true
	}
	for part := range strings.SplitSeq(to, "/") {
		switch part {
		case "", ".":
			continue
		case "..":
			if len(at) == 0 {
				return nil, true
			}
			at = at[:len(at)-1]
			continue
		}
		next := append(at[:len(at):len(at)], part)
		if target, ok := l[strings.Join(next, "/")]; ok {
			if *left--; *left < 0 {
				return at, false
			}
			if next, out = l.follow(at, target, left); out {
				return nil, true
			}
		}
		at = next
	}
	return at, false
}

func splitPath(dir string) []string {
	if dir == "." {
		return nil
	}
	return strings.Split(dir, "/")
}

// asWritten refuses a manifest in other words than Write has for it: names twice, in
// other capitals or in another order would be read in one way here and in another elsewhere.
func (m Manifest) asWritten(file []byte) error {
	b, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("cannot encode the manifest of %s: %w", m.Release, err)
	}
	if !bytes.Equal(b, bytes.TrimSuffix(file, []byte{'\n'})) {
		return Failf(CodePayload, "the manifest of %s is not written as refit writes one", m.Release)
	}
	return nil
}
