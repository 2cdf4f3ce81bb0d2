package builds

import (
	"path"
	"strings"

	"vmst.io/refit/hosts/node"
)

// Variation names files of a release that two builds of one tag may have differently.
type Variation struct {
	// Pattern is as path.Match has it; "/**" at its end stands for all below.
	Pattern string
	// Why they differ, and why that does no harm.
	Why string
}

// Variations are all of them; docs/builds.md lists the same.
func Variations() []Variation {
	return []Variation{
		{provenanceFile, "it says when, where and in which run the release was built"},
		{"public/packs/.vite/manifest-assets.json", "the asset plugin writes its entries in the order in which its workers end; each names the same file"},
		{"public/packs/**.map", "the bundler's workers write the sources of a map in the order in which they end; no page loads a map"},
		{compiled + "/**", "with `build.precompile`: Ruby writes one file's compiled code out differently each time; a cache of what lies beside it"},
	}
}

// varies tells whether a path is one of Variations.
func varies(rel string) bool {
	for _, v := range Variations() {
		if dir, below, ok := strings.Cut(v.Pattern, "/**"); ok {
			if strings.HasPrefix(rel, dir+"/") && strings.HasSuffix(rel, below) {
				return true
			}
			continue
		}
		if fits, err := path.Match(v.Pattern, rel); err == nil && fits {
			return true
		}
	}
	return false
}

// CompareBuilds tells in which files two builds differ: those that Variations names,
// and others, which there should not be.
func CompareBuilds(a, b node.Manifest) (named, others []string) {
	note := func(p string) {
		if varies(p) {
			named = append(named, p)
		} else {
			others = append(others, p)
		}
	}
	i, j := 0, 0
	for i < len(a.Files) || j < len(b.Files) {
		switch {
		case j == len(b.Files) || i < len(a.Files) && a.Files[i].Path < b.Files[j].Path:
			note(a.Files[i].Path)
			i++
		case i == len(a.Files) || a.Files[i].Path > b.Files[j].Path:
			note(b.Files[j].Path)
			j++
		default:
			if a.Files[i] != b.Files[j] {
				note(a.Files[i].Path)
			}
			i, j = i+1, j+1
		}
	}
	return named, others
}
