package stages

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"vmst.io/refit/builds"
	"vmst.io/refit/hosts/git"
	"vmst.io/refit/hosts/node"
)

// tags is upstream as this machine sees it.
type tags map[string]builds.Release

func (s tags) Tag(_ context.Context, v builds.Version) (builds.Release, error) {
	r, ok := s[v.String()]
	if !ok {
		return r, errors.New("the repository does not answer")
	}
	return r, nil
}

func TestVerifySaysOfEachNodeWhatIsNotAsItWasBuilt(t *testing.T) {
	const live = "v4.5.14"
	change := func(host string, do func(*node.VerifyOut)) func(*world) {
		return func(w *world) {
			out := w.whole(live)
			do(&out)
			w.proved = map[string]node.VerifyOut{host + " " + live: out}
		}
	}
	ruby := func(found node.VerifyOut) func(*world) {
		return func(w *world) {
			change("kirk", func(o *node.VerifyOut) {
				o.Toolchains = []node.ToolchainRef{{Name: "ruby-3.4.7", Recipe: "r1", Digest: "d1"}}
			})(w)
			w.proved["kirk ruby-3.4.7"] = found
		}
	}
	source := func(do func(*builds.SourceOut)) func(*world) {
		return func(w *world) {
			out := w.source(live)
			do(&out)
			w.sources = map[string]builds.SourceOut{"kirk": out}
		}
	}
	for name, c := range map[string]struct {
		spoil      func(*world)
		changed    []string // on kirk
		faults     []string // each in one fault of kirk's
		notKnown   string
		unmodified bool
	}{
		"nothing": {spoil: func(*world) {}, unmodified: true},
		"files of each part": {
			spoil: change("kirk", func(o *node.VerifyOut) {
				for _, p := range []string{".refit/bin/ruby", "app/models/a.rb", "node_modules/ws/index.js", "public/packs/a.js", "vendor/bundle/ruby/3.3.0/gems/rack/rack.rb"} {
					o.Differences = append(o.Differences, node.Difference{Path: p, What: "other content"})
				}
			}),
			changed: []string{".refit/bin/ruby (refit's own)", "app/models/a.rb (source)", "node_modules/ws/index.js (node packages)", "public/packs/a.js (assets)", "vendor/bundle/ruby/3.3.0/gems/rack/rack.rb (gems)"},
		},
		"a signature, and no file":                         {spoil: change("kirk", func(o *node.VerifyOut) { o.Unsigned = "it is not signed" }), faults: []string{"kirk: the manifest of v4.5.14: it is not signed"}, unmodified: true},
		"bridged files of a release that left no manifest": {spoil: change("kirk", func(o *node.VerifyOut) { o.Unknown = map[string]int{"v4.5.13": 4} }), notKnown: "4 bridged files are said to be of v4.5.13", unmodified: true},
		"no manifest": {spoil: func(w *world) { w.fails["kirk place.verify"] = node.Failf(node.CodeNotFound, "no manifest") }, faults: []string{"was not placed by refit"}},
		"a file that the manifest was changed with": {
			spoil: source(func(o *builds.SourceOut) {
				o.Tree, o.Differences = "t", []git.Difference{{Path: "app/models/a.rb", What: "content"}}
			}),
			changed: []string{"app/models/a.rb (source)"},
		},
		"a tracked file that is gone": {
			spoil: source(func(o *builds.SourceOut) {
				o.Tree, o.Differences = "t", []git.Difference{{Path: "lib/a.rb", What: "missing"}}
			}),
			changed: []string{"lib/a.rb (source)"},
		},
		"a list of another commit's files": {spoil: source(func(o *builds.SourceOut) { o.Tag.Commit = "c0ffee" }), faults: []string{"lists the files of commit c0ffee"}},
		"a list that is shorter":           {spoil: source(func(o *builds.SourceOut) { o.Tree = "another" }), faults: []string{"the list of what is tracked was changed", "upstream's tag"}},
		"no list":                          {spoil: func(w *world) { w.fails["kirk source.show"] = errors.New("it has no record of its source") }, faults: []string{"cannot be proved: kirk: it has no record"}},
		"a provenance of another release":  {spoil: source(func(o *builds.SourceOut) { o.Provenance = ".refit/provenance.json: it is not of v4.5.14" }), notKnown: "it is not of v4.5.14", unmodified: true},
		"a file of its Ruby":               {spoil: ruby(node.VerifyOut{Head: node.Head{Recipe: "r1"}, Differences: []node.Difference{{Path: "lib/set.rb", What: "other content"}}}), changed: []string{"/opt/refit/ruby-3.4.7/lib/set.rb (toolchain)"}},
		"a Ruby that is not signed":        {spoil: ruby(node.VerifyOut{Head: node.Head{Recipe: "r1"}, Unsigned: "it is not signed"}), faults: []string{"kirk: the manifest of ruby-3.4.7: it is not signed"}, unmodified: true},
		"a Ruby of another recipe":         {spoil: ruby(node.VerifyOut{Head: node.Head{Recipe: "r2"}}), faults: []string{"was built with a ruby-3.4.7 of another recipe (r1) than the one that is there (r2)"}},
		"a Ruby that was compiled again":   {spoil: ruby(node.VerifyOut{Head: node.Head{Recipe: "r1", Digest: "another"}}), unmodified: true},
		"another build than the others'": {
			spoil:  change("kirk", func(o *node.VerifyOut) { o.Digest = "another" }),
			faults: []string{"kirk: its v4.5.14 is another build (manifest another) than on decker, scotty, spock"},
		},
		"another build than the one on record": {
			spoil: func(w *world) {
				b, err := json.Marshal(Record{Release: live, Digest: "recorded", Run: "u-0"})
				if err != nil {
					w.t.Error(err)
				}
				w.record = b
			},
			faults: []string{"than the one that run u-0 put there (recorded)"},
		},
		"another system's build": {
			spoil: func(w *world) {
				change("kirk", func(o *node.VerifyOut) { o.Digest, o.OS, o.Arch = "of sulu", "debian 12", "amd64" })(w)
				b, err := json.Marshal(Record{Release: live, Digest: w.whole(live).Digest, Digests: map[string]string{"kirk": "of sulu"}, Run: "u-0"})
				if err != nil {
					w.t.Error(err)
				}
				w.record = b
			},
			unmodified: true,
		},
		"a record that cannot be read": {spoil: func(w *world) { w.record = []byte("{") }, notKnown: "uhura has on record", unmodified: true},
		"a process of another release": {
			spoil: func(w *world) {
				w.processes = map[string]node.RunningOut{"kirk": {Live: live, Processes: []node.Process{{Pid: 812, Name: "puma", Unit: "mastodon-web.service", Faults: []string{"works in /x, which was removed"}}, {Pid: 900, Name: "ruby", Faults: []string{"works in v4.5.13, and live is v4.5.14"}}}}}
			},
			faults: []string{"kirk: process 812 (puma) of mastodon-web.service works in /x, which was removed: restart its unit", "process 900 (ruby) of no unit works in v4.5.13"}, unmodified: true,
		},
		"live moved meanwhile": {spoil: func(w *world) { w.processes = map[string]node.RunningOut{"kirk": {Live: "v4.5.15"}} }, faults: []string{"live was v4.5.14 and is v4.5.15"}, unmodified: true},
		"upstream's other tag": {spoil: func(w *world) { w.d.Source = tags{live: builds.Release{Tag: git.Tag{Commit: "cafe", Tree: "cafe"}}} }, faults: []string{"and upstream's tag is cafe"}},
		"upstream's other files": {spoil: func(w *world) {
			w.d.Source = tags{live: builds.Release{Tag: git.Tag{Commit: w.f.From.Tag.Commit, Tree: "cafe"}}}
		}, faults: []string{"and upstream's tag cafe"}},
		"an upstream that is away": {spoil: func(w *world) { w.d.Source = tags{} }, notKnown: "whether upstream's tag v4.5.14 is what the node has: the repository does not answer", unmodified: true},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.d.Source = tags{live: w.f.From}
				c.spoil(w)
				verdicts := w.d.Verify(t.Context(), w.say)
				if len(verdicts) != 4 {
					t.Fatalf("%d verdicts", len(verdicts))
				}
				i := slices.IndexFunc(verdicts, func(v Verdict) bool { return v.Host == "kirk" })
				v := verdicts[i]
				var changed []string
				for _, f := range v.Changed {
					changed = append(changed, f.Path+" ("+f.Part+")")
				}
				if !slices.Equal(changed, c.changed) {
					t.Errorf("changed: %q, wanted %q", changed, c.changed)
				}
				for _, want := range c.faults {
					if !strings.Contains(strings.Join(v.Faults, "\n"), want) {
						t.Errorf("faults: %q, wanted %q", v.Faults, want)
					}
				}
				if len(c.faults) == 0 && len(v.Faults) > 0 {
					t.Errorf("faults: %q", v.Faults)
				}
				if (c.notKnown == "") != (len(v.NotKnown) == 0) || !strings.Contains(strings.Join(v.NotKnown, "\n"), c.notKnown) {
					t.Errorf("not known: %q, wanted %q", v.NotKnown, c.notKnown)
				}
				if v.Unmodified != c.unmodified || v.Wrong() != (len(c.changed)+len(c.faults) > 0) {
					t.Errorf("unmodified is %v, wrong %v", v.Unmodified, v.Wrong())
				}
				if v.Release != live || (c.unmodified && (v.Tree != w.f.From.Tag.Tree || v.Commit != w.f.From.Tag.Commit || v.Builder != "refit://khan")) {
					t.Errorf("%+v", v)
				}
				for _, other := range verdicts {
					if other.Host != "kirk" && other.Wrong() && len(c.faults) == 0 {
						t.Errorf("%s: %+v", other.Host, other)
					}
				}
			})
		})
	}
}
