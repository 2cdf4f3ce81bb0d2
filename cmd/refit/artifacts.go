package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"vmst.io/refit/builds/store"
	"vmst.io/refit/hosts/node"
)

func artifactsCommand(s streams) *cli.Command {
	return &cli.Command{
		Name:  "artifacts",
		Usage: "list what the store holds, or remove some of it; never what a node has",
		Flags: []cli.Flag{
			configFlag(), jsonFlag(),
			&cli.StringSliceFlag{Name: "remove", Usage: "remove the artifact of that `NAME` or manifest; may be given more than once"},
		},
		Action: func(c *cli.Context) error {
			ctx, stop, done := trap(c.Context, s.notice)
			defer done()
			ctx, end := untouched(ctx, stop)
			defer end()
			conf, err := loadConfig(c.String("config"))
			if err != nil {
				return err
			}
			kept, err := conf.artifacts(s.progress())
			if err != nil {
				return err
			}
			if kept == nil {
				return exitWith(exitUsage, fmt.Errorf("%s names no store: give it a dir or an s3 (refit example shows both)", c.String("config")))
			}
			if names := c.StringSlice("remove"); len(names) > 0 {
				err = s.removeArtifacts(ctx, c.String("config"), kept, names)
			} else {
				err = s.listArtifacts(ctx, kept, c.Bool("json"))
			}
			if err != nil && interrupted(ctx) != nil {
				return interrupted(ctx)
			}
			return err
		},
	}
}

// artifactsJSON is the store's content for programs.
type artifactsJSON struct {
	Schema    string           `json:"schema"` // "refit.artifacts/v1"
	Store     string           `json:"store"`
	Artifacts []store.Artifact `json:"artifacts"`
	// Strays counts objects of no artifact; StrayBytes is their size.
	Strays     int   `json:"strays"`
	StrayBytes int64 `json:"stray_bytes"`
	// Dumps are of databases, of every fleet that keeps its own here; Torn counts objects
	// of no whole dump.
	Dumps     []store.Dump `json:"dumps,omitempty"`
	Torn      int          `json:"torn,omitempty"`
	TornBytes int64        `json:"torn_bytes,omitempty"`
}

func (s streams) listArtifacts(ctx context.Context, kept *store.Store, asJSON bool) error {
	list, err := kept.List(ctx)
	if err != nil {
		return exitWith(exitFailed, err)
	}
	out := artifactsJSON{Schema: "refit.artifacts/v1", Store: kept.String(), Artifacts: list.Artifacts, Strays: len(list.Strays), Dumps: list.Dumps, Torn: len(list.Torn)}
	for _, item := range list.Torn {
		out.TornBytes += item.Size
	}
	for _, item := range list.Strays {
		out.StrayBytes += item.Size
	}
	if asJSON {
		if out.Artifacts == nil {
			out.Artifacts = []store.Artifact{}
		}
		return printJSON(s.out, out)
	}
	_, err = fmt.Fprint(s.out, artifactsText(out))
	return err
}

// artifactsText is the store's content for people.
func artifactsText(l artifactsJSON) string {
	var b strings.Builder
	if len(l.Artifacts) == 0 {
		fmt.Fprintf(&b, "%s holds no artifact\n", l.Store)
	} else {
		fmt.Fprintf(&b, "%s\n", l.Store)
	}
	var all int64
	for _, a := range l.Artifacts {
		signed := "not signed"
		if a.Signed() {
			signed = "signed"
		}
		fmt.Fprintf(&b, "  %-14s %.12s  %s %s  %8s  %s, on %s, %s\n", a.Name, a.Digest, a.OS, a.Arch, humanize.IBytes(uint64(a.Size())), a.Stored.UTC().Format("2006-01-02 15:04"), a.Builder, signed)
		all += a.Size()
	}
	if len(l.Artifacts) > 1 {
		fmt.Fprintf(&b, "%d artifacts, %s\n", len(l.Artifacts), humanize.IBytes(uint64(all)))
	}
	for _, d := range l.Dumps {
		fmt.Fprintf(&b, "  dump of %s of %s, %8s  %s, by run %s, PostgreSQL %s: %s\n", d.Database, d.Fleet, humanize.IBytes(uint64(d.Archive.Size)), d.Taken.UTC().Format("2006-01-02 15:04"), d.Run, d.Server, d.Key())
	}
	if l.Torn > 0 {
		fmt.Fprintf(&b, "%d objects of no whole dump, %s: the next upgrade of their fleet removes those that are a day old\n", l.Torn, humanize.IBytes(uint64(l.TornBytes)))
	}
	if l.Strays > 0 {
		fmt.Fprintf(&b, "%d objects of no artifact, %s: the next upgrade removes those that are a day old\n", l.Strays, humanize.IBytes(uint64(l.StrayBytes)))
	}
	return b.String()
}

// removeArtifacts removes what is named, all of it or nothing: what a node has must stay
// where it could be fetched from again.
func (s streams) removeArtifacts(ctx context.Context, path string, kept *store.Store, names []string) error {
	list, err := kept.List(ctx)
	if err != nil {
		return exitWith(exitFailed, err)
	}
	var chosen []store.Artifact
	for _, name := range names {
		a, err := chooseArtifact(list.Artifacts, name)
		if err != nil {
			return exitWith(exitUsage, err)
		}
		chosen = append(chosen, a)
	}
	x, err := open(path, newRun(), "artifacts --remove", s.progress())
	if err != nil {
		return err
	}
	defer closing(x, s)
	on, err := x.digests(ctx)
	if err != nil {
		return refuse("what the nodes have cannot be found out, so nothing is removed: %w", err)
	}
	if why := heldBy(list.Artifacts, chosen, on); why != "" {
		return refuse("%s; nothing was removed", why)
	}
	ctx = context.WithoutCancel(ctx) // what was begun is ended
	for _, a := range chosen {
		if err := kept.Remove(ctx, a); err != nil {
			return exitWith(exitFailed, err)
		}
		if _, err := fmt.Fprintf(s.out, "removed %s, %s\n", a, humanize.IBytes(uint64(a.Size()))); err != nil {
			return err
		}
	}
	return nil
}

// leastDigest is how much of a manifest's digest names an artifact, in hex digits.
const leastDigest = 6

// chooseArtifact finds the one artifact that a person means.
func chooseArtifact(all []store.Artifact, name string) (store.Artifact, error) {
	var found []store.Artifact
	for _, a := range all {
		if a.Name == name || len(name) >= leastDigest && strings.HasPrefix(a.Digest, name) {
			found = append(found, a)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return store.Artifact{}, fmt.Errorf("the store has no artifact %q: `refit artifacts` lists them", name)
	}
	var lines []string
	for _, a := range found {
		lines = append(lines, a.String())
	}
	return store.Artifact{}, fmt.Errorf("%q could be %d artifacts; name one by the first digits of its manifest: %s", name, len(found), strings.Join(lines, "; "))
}

// digests are the manifests of all that lies on the nodes, with who has each. Every node
// must have answered: what one has that did not is not known.
func (x *session) digests(ctx context.Context) (map[string][]string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var mu sync.Mutex
	on := map[string][]string{}
	apps := x.deps.Fleet.Apps()
	errs := make([]error, len(apps))
	many(len(apps), func(i int) {
		var f node.Facts
		f, errs[i] = apps[i].Agent.Facts(ctx, node.FactsIn{Home: x.deps.Layout.Home})
		mu.Lock()
		defer mu.Unlock()
		for _, r := range f.Releases {
			on[r.Digest] = append(on[r.Digest], apps[i].Name)
		}
	})
	return on, errors.Join(errs...)
}

// heldBy tells why one of the chosen must stay; "" if none must.
func heldBy(all, chosen []store.Artifact, on map[string][]string) string {
	goes := func(a store.Artifact) bool {
		return slices.ContainsFunc(chosen, func(c store.Artifact) bool { return c.Digest == a.Digest })
	}
	for _, a := range chosen {
		if nodes := on[a.Digest]; len(nodes) > 0 {
			slices.Sort(nodes)
			return fmt.Sprintf("%s lies on %s, which runs it or can go back to it", a, strings.Join(nodes, ", "))
		}
		for _, other := range all {
			if slices.Contains(other.Needs, a.Digest) && !goes(other) {
				return fmt.Sprintf("%s cannot run without %s", other, a)
			}
		}
	}
	return ""
}
