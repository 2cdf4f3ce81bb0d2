package node

import (
	"path"
	"regexp"
	"strings"
)

// kin finds the file of an older release that a file most likely came from: that of the
// same path, or of a path that differs in a version or a hash only, and then the one
// nearest in size.
type kin struct {
	files  []Entry
	byPath map[string]int
	byForm map[string][]int
}

func newKin(files []Entry, without []string) kin {
	k := kin{files, make(map[string]int, len(files)), make(map[string][]int, len(files))}
	for i, e := range files {
		if !e.Regular() || e.Size == 0 || below(e.Path, without) {
			continue
		}
		k.byPath[e.Path] = i
		f := form(e.Path)
		k.byForm[f] = append(k.byForm[f], i)
	}
	return k
}

// of returns the place of a file's kin.
func (k kin) of(e Entry) (int, bool) {
	if i, ok := k.byPath[e.Path]; ok {
		return i, true
	}
	best, found := 0, false
	for _, i := range k.byForm[form(e.Path)] {
		if !found || distance(k.files[i].Size, e.Size) < distance(k.files[best].Size, e.Size) {
			best, found = i, true
		}
	}
	return best, found
}

func distance(a, b int64) int64 { return max(a, b) - min(a, b) }

var (
	// Versions ("8.0.2", "3.4.0") and what git and bundlers write for a content. A word of
	// letters alone is none: it could be any.
	versionText = regexp.MustCompile(`\d+(\.\d+)+`)
	hashText    = regexp.MustCompile(`(^|[-._])[0-9a-f]*[0-9][0-9a-f]{6,}($|[-._])`)
)

// viteHash is how many letters of its content's hash Vite puts before a file's first dot.
const viteHash = 8

// form is a path without what changes from one release to the next.
func form(p string) string {
	parts := strings.Split(p, "/")
	for i, s := range parts {
		s = versionText.ReplaceAllString(s, "#")
		parts[i] = hashText.ReplaceAllString(s, "$1#$2")
	}
	if below(p, assetDirs) {
		last := path.Base(p)
		name, rest, _ := strings.Cut(last, ".")
		if n := len(name) - viteHash; n > 0 && name[n-1] == '-' {
			parts[len(parts)-1] = name[:n] + "#." + versionText.ReplaceAllString(rest, "#")
		}
	}
	return strings.Join(parts, "/")
}
