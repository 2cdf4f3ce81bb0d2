package configs

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
)

// alike is the share of upstream's lines that a site of nginx must have to be taken
// for one made of upstream's nginx.conf: the documentation tells admins to copy it
// under a name of their own.
const alike = 0.5

// Upstream holds what two releases ship for their admins to copy, by path there
// (dist/*.service, dist/nginx.conf), to the team's templates, by path below templates/:
// what merges cleanly, and what a person must decide. A file that did not change
// between the releases gives nothing, nor does one whose change the team has already.
// Sorted by source and template.
func Upstream(old, new, theirs map[string][]byte) []Proposal {
	var out []Proposal
	sources := slices.Sorted(maps.Keys(old))
	for p := range new {
		if _, both := old[p]; !both {
			sources = append(sources, p)
		}
	}
	slices.Sort(sources)
	for _, source := range sources {
		if !shipped(source) {
			continue
		}
		before, had := old[source]
		after, has := new[source]
		if had && has && bytes.Equal(before, after) {
			continue
		}
		like := before
		if !had {
			like = after
		}
		made := madeOf(source, like, theirs, sources)
		switch {
		case had && has && len(made) == 0:
			out = append(out, Proposal{
				Source: source, Kind: ProposalUnmatched,
				Why: fmt.Sprintf("the release changes %s, and no template is known to be made of it: if hosts have a file that was, compare by hand", source),
			})
		case !had && len(made) == 0:
			out = append(out, Proposal{
				Source: source, Kind: ProposalNew, Merged: after,
				Why: fmt.Sprintf("%s is new in this release and templates/ has no %s: decide which nodes are to have it, and where", source, path.Base(source)),
			})
		case !has:
			for _, t := range made {
				out = append(out, Proposal{
					Source: source, Template: t, Kind: ProposalRemoved,
					Why: fmt.Sprintf("the release no longer has %s, of which templates/%s is made: see its notes for what takes its place", source, t),
				})
			}
		default:
			for _, t := range made {
				if p, any := propose(source, t, before, after, theirs[t]); any {
					out = append(out, p)
				}
			}
		}
	}
	slices.SortStableFunc(out, func(a, b Proposal) int {
		return cmp.Or(cmp.Compare(a.Source, b.Source), cmp.Compare(a.Template, b.Template))
	})
	return out
}

// shipped tells whether a path of the release is one that admins copy.
func shipped(source string) bool {
	return path.Dir(source) == "dist" && (isUnit(source) || source == "dist/nginx.conf")
}

func isUnit(name string) bool {
	return slices.Contains([]string{".service", ".timer", ".socket", ".target"}, path.Ext(name))
}

// propose merges one change into one template. Where the release has a file that it
// did not have and the team does, there is no old side, so that all they differ in is
// a conflict.
func propose(source, t string, before, after, theirs []byte) (Proposal, bool) {
	merged, conflicts := Merge(before, after, theirs)
	p := Proposal{Source: source, Template: t, Conflicts: conflicts}
	switch {
	case len(conflicts) > 0:
		p.Kind = ProposalConflict
		p.Why = fmt.Sprintf("the release changes %s where templates/%s differs from it (line %d): decide by hand, and commit", source, t, conflicts[0].Line)
	case bytes.Equal(merged, theirs):
		return Proposal{}, false
	default:
		p.Kind, p.Merged = ProposalMerged, merged
		p.Why = fmt.Sprintf("the release's change of %s goes into templates/%s without touching what is yours", source, t)
	}
	return p, true
}

// madeOf are the templates that were made of a file of the release: units by their names,
// sites of nginx by what they hold. Several units of a team's may be made of one, such as
// mastodon-sidekiq-push.service; they are of the shipped unit with the longest such name.
func madeOf(source string, like []byte, theirs map[string][]byte, sources []string) []string {
	var out []string
	for t, content := range theirs {
		onHost := "/" + afterFolder(strings.TrimSuffix(t, tmpl))
		switch {
		case isUnit(source):
			if path.Dir(onHost) == "/etc/systemd/system" && unitOf(path.Base(onHost), sources) == source && (path.Base(onHost) == path.Base(source) || share(like, content) >= alike) {
				out = append(out, t)
			}
		case strings.HasPrefix(onHost, "/etc/nginx/") && share(like, content) >= alike:
			out = append(out, t)
		}
	}
	slices.Sort(out)
	return out
}

// unitOf is the shipped unit that one of this name is made of: the one of the same name, or
// the longest one whose name it begins with; "" for none.
func unitOf(name string, sources []string) string {
	best := ""
	for _, source := range sources {
		if !shipped(source) || !isUnit(source) || path.Ext(source) != path.Ext(name) {
			continue
		}
		shippedName := path.Base(source)
		if shippedName == name {
			return source
		}
		stem := strings.TrimRight(strings.TrimSuffix(shippedName, path.Ext(shippedName)), "@")
		if rest, ok := strings.CutPrefix(name, stem); ok && (rest[0] == '-' || rest[0] == '@') && len(source) > len(best) {
			best = source
		}
	}
	return best
}

// afterFolder is a template's path without the folder that says whose it is.
func afterFolder(name string) string {
	first, rest, _ := strings.Cut(name, "/")
	if first == "host" {
		_, rest, _ = strings.Cut(rest, "/")
	}
	return rest
}

// share is how many of a's lines b has too, from 0 to 1. Blank lines, braces and
// indentation do not count.
func share(a, b []byte) float64 {
	has := map[string]bool{}
	for line := range strings.Lines(string(b)) {
		has[strings.TrimSpace(line)] = true
	}
	all, found := 0, 0
	for line := range strings.Lines(string(a)) {
		line = strings.TrimSpace(line)
		if len(line) < 3 {
			continue
		}
		all++
		if has[line] {
			found++
		}
	}
	if all == 0 {
		return 0
	}
	return float64(found) / float64(all)
}
