package stages

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"vmst.io/refit/builds"
	"vmst.io/refit/hosts/node"
	"vmst.io/refit/pipeline"
)

// proveFiles holds what lies in a node's live release to its manifest, and its source to
// the tag.
func (d Deps) proveFiles(ctx context.Context, n Node, v *Verdict, say pipeline.Say) {
	found, err := n.Agent.PlaceVerify(ctx, node.VerifyIn{
		Home: d.Layout.Home, Release: v.Release, Signed: d.Signing, Links: d.Layout.SharedLinks(), Writable: writable(),
	}, sayer(n, say))
	if errors.Is(err, node.ErrNotFound) {
		v.Faults = append(v.Faults, fmt.Sprintf("%s: %s was not placed by refit: it has no manifest, and nothing of it is known", n.Name, v.Release))
		return
	}
	if v.fault(err) {
		return
	}
	v.OS, v.Arch = found.OS, found.Arch
	v.Commit, v.Files, v.Digest, v.SignedBy = found.Commit, found.Files, found.Digest, found.SignedBy
	v.Unmodified = len(found.Differences)+found.More == 0
	changed := map[string]string{}
	for _, diff := range found.Differences {
		changed[diff.Path] = diff.What
	}
	v.More = found.More
	if found.Unsigned != "" {
		v.Faults = append(v.Faults, fmt.Sprintf("%s: the manifest of %s: %s", n.Name, v.Release, found.Unsigned))
	}
	for _, release := range slices.Sorted(maps.Keys(found.Unknown)) {
		v.NotKnown = append(v.NotKnown, fmt.Sprintf("%d bridged files are said to be of %s, whose manifest is not there or not signed", found.Unknown[release], release))
	}
	d.proveSource(ctx, n, v, found.Head, changed)
	d.proveToolchains(ctx, n, v, found.Toolchains, changed)
	for _, path := range slices.Sorted(maps.Keys(changed)) {
		v.Changed = append(v.Changed, Changed{Path: path, What: changed[path], Part: partOf(path)})
	}
}

// proveSource has the node compute git's tree hash, and adds to changed what that finds.
func (d Deps) proveSource(ctx context.Context, n Node, v *Verdict, manifest node.Head, changed map[string]string) {
	version, err := builds.ParseVersion(v.Release)
	if err != nil {
		v.modified("%s: live is %q, which is no release's name", n.Name, v.Release)
		return
	}
	src, err := builds.ReadSourceOn(ctx, n.Agent, builds.SourceIn{
		Home: d.Layout.Home, Version: version, Elsewhere: append(slices.Collect(maps.Keys(d.Layout.SharedLinks())), writable()...),
	})
	if err != nil {
		v.modified("%s: the source of %s cannot be proved: %v", n.Name, v.Release, err)
		return
	}
	v.Tree, v.Builder, v.Built, v.Run = src.Tree, src.Builder, src.Finished, src.Run
	for _, diff := range src.Differences {
		if changed[diff.Path] == "" {
			changed[diff.Path] = "its " + diff.What + " is not the tag's"
			if diff.What == "missing" {
				changed[diff.Path] = "missing, and the tag has it"
			}
			v.Unmodified = false
		}
	}
	v.More += src.More
	switch {
	case src.Tag.Tree != manifest.Tree || src.Tag.Commit != manifest.Commit:
		v.modified("%s: %s lists the files of commit %.12s with tree %.12s, and its manifest names commit %.12s with tree %.12s",
			n.Name, v.Release, src.Tag.Commit, src.Tag.Tree, manifest.Commit, manifest.Tree)
	case src.Tree != src.Tag.Tree && len(src.Differences) == 0:
		v.modified("%s: the tracked files of %s have tree %.12s, and its tag %.12s: the list of what is tracked was changed", n.Name, v.Release, src.Tree, src.Tag.Tree)
	}
	if src.Provenance != "" {
		v.NotKnown = append(v.NotKnown, src.Provenance)
	}
}

// proveToolchains holds the Ruby, the Bundler and the Node that a release was built with
// to their own manifests. One that was made again by the same recipe is as good.
func (d Deps) proveToolchains(ctx context.Context, n Node, v *Verdict, tools []node.ToolchainRef, changed map[string]string) {
	for _, t := range tools {
		found, err := n.Agent.PlaceVerify(ctx, node.VerifyIn{Kind: node.KindToolchain, Release: t.Name, Signed: d.Signing}, nil)
		if errors.Is(err, node.ErrNotFound) {
			v.modified("%s: %s runs with %s, which is not there, or was not put there by refit", n.Name, v.Release, t.Name)
			continue
		}
		if v.fault(err) {
			v.Unmodified = false
			continue
		}
		v.Files += found.Files
		if found.Recipe != t.Recipe {
			v.modified("%s: %s was built with a %s of another recipe (%.12s) than the one that is there (%.12s)", n.Name, v.Release, t.Name, t.Recipe, found.Recipe)
		}
		if found.Unsigned != "" {
			v.Faults = append(v.Faults, fmt.Sprintf("%s: the manifest of %s: %s", n.Name, t.Name, found.Unsigned))
		}
		for _, diff := range found.Differences {
			changed[path.Join(node.ToolchainsDir, t.Name, diff.Path)] = diff.What
			v.Unmodified = false
		}
		v.More += found.More
	}
}

// partOf tells what a file of a release, or of a toolchain, belongs to.
func partOf(path string) string {
	if strings.HasPrefix(path, node.ToolchainsDir+"/") {
		return "toolchain"
	}
	for _, p := range []struct{ below, part string }{
		{"vendor/bundle/", "gems"}, {"public/packs/", "assets"}, {"public/assets/", "assets"}, {"node_modules/", "node packages"}, {".refit/", "refit's own"}, {".bundle/", "refit's own"},
	} {
		if strings.HasPrefix(path+"/", p.below) {
			return p.part
		}
	}
	return "source"
}

// proveProcesses looks at every process of Mastodon's on a node.
func (d Deps) proveProcesses(ctx context.Context, n Node, v *Verdict) {
	out, err := n.Agent.Running(ctx, node.RunningIn{Home: d.Layout.Home, Units: n.Units()})
	if v.fault(err) {
		return
	}
	if out.Live != v.Release {
		v.Faults = append(v.Faults, fmt.Sprintf("%s: live was %s and is %s: somebody changes it right now", n.Name, v.Release, out.Live))
	}
	v.Processes = len(out.Processes)
	for _, p := range out.Processes {
		for _, f := range p.Faults {
			v.Faults = append(v.Faults, fmt.Sprintf("%s: process %d (%s) of %s %s: restart its unit", n.Name, p.Pid, p.Name, cmp.Or(p.Unit, "no unit"), f))
		}
	}
}

// build names what one builder made: of one release and one system there is one.
func (v *Verdict) build() string { return v.Release + " " + v.OS + " " + v.Arch }

// alike holds nodes that run one release to each other, and to what the keeper has on
// record: a release that was swapped as a whole proves itself, and is another.
func (d Deps) alike(ctx context.Context, verdicts []Verdict) {
	recorded, err := d.Recorded(ctx)
	by := map[string]map[string][]string{} // release and system, digest, hosts
	for i := range verdicts {
		v := &verdicts[i]
		if v.Digest == "" {
			continue
		}
		if by[v.build()] == nil {
			by[v.build()] = map[string][]string{}
		}
		by[v.build()][v.Digest] = append(by[v.build()][v.Digest], v.Host)
		switch {
		case err != nil:
			v.NotKnown = append(v.NotKnown, fmt.Sprintf("what the fleet should run, which %s has on record: %v", d.keeper().Name, err))
		case recorded.Release == v.Release && recorded.of(v.Host) != "" && recorded.of(v.Host) != v.Digest:
			v.modified("%s: its %s is another build (manifest %.12s) than the one that run %s put there (%.12s)", v.Host, v.Release, v.Digest, recorded.Run, recorded.of(v.Host))
		}
	}
	for i := range verdicts {
		v := &verdicts[i]
		for digest, others := range by[v.build()] {
			if v.Digest != "" && digest != v.Digest && len(others) >= len(by[v.build()][v.Digest]) {
				v.modified("%s: its %s is another build (manifest %.12s) than on %s (%.12s)", v.Host, v.Release, v.Digest, strings.Join(others, ", "), digest)
			}
		}
	}
}

// Recorded is what the keeper has on record; zero where no run has ended yet.
func (d Deps) Recorded(ctx context.Context) (Record, error) {
	var r Record
	out, err := d.keeper().Agent.FileGet(ctx, RecordPath)
	if errors.Is(err, node.ErrNotFound) {
		return r, nil
	}
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(out.Content, &r); err != nil {
		return r, fmt.Errorf("cannot read %s: %w", RecordPath, err)
	}
	return r, nil
}

// asUpstream holds what the nodes computed to the tags as this machine sees them.
func (d Deps) asUpstream(ctx context.Context, verdicts []Verdict) {
	if d.Source == nil {
		return
	}
	asked := map[string]func(*Verdict){}
	for i := range verdicts {
		v := &verdicts[i]
		if v.Tree == "" {
			continue
		}
		if asked[v.Release] == nil {
			asked[v.Release] = d.truth(ctx, v.Release)
		}
		asked[v.Release](v)
	}
}

// truth asks upstream for a tag once, and gives what judges a node by it.
func (d Deps) truth(ctx context.Context, release string) func(*Verdict) {
	version, err := builds.ParseVersion(release)
	var to builds.Release
	if err == nil {
		to, err = d.Source.Tag(ctx, version)
	}
	return func(v *Verdict) {
		switch {
		case err != nil:
			v.NotKnown = append(v.NotKnown, fmt.Sprintf("whether upstream's tag %s is what the node has: %v", release, err))
		case v.Commit != to.Tag.Commit:
			v.modified("%s: its %s was built from commit %.12s, and upstream's tag is %.12s", v.Host, release, v.Commit, to.Tag.Commit)
		case v.Tree != to.Tag.Tree && len(v.Changed) == 0:
			v.modified("%s: the source of its %s has tree %.12s, and upstream's tag %.12s", v.Host, release, v.Tree, to.Tag.Tree)
		}
	}
}
