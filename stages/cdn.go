package stages

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"vmst.io/refit/builds/store"
	"vmst.io/refit/hosts/mastodon"
	"vmst.io/refit/hosts/node"
	"vmst.io/refit/pipeline"
)

// cdn copies the hashed assets of both releases to the bucket behind CDN_HOST, and asks
// for all of them there as a page would: before the first page of the new release names
// them. It is in the table only where the fleet has such a bucket.
type cdn struct {
	d Deps
	f *Facts
}

func (cdn) Name() string { return "copy assets to the CDN" }

// Check asks whether the bucket can be listed at all.
func (s cdn) Check(ctx context.Context, _ pipeline.Say) error {
	if s.d.CDN == nil {
		return pipeline.Refuse("%w", errNoCDN)
	}
	if _, err := s.d.CDN.Bucket.List(ctx, ".refit/"); err != nil {
		return fmt.Errorf("cannot list %s: %w", s.d.CDN.Bucket, err)
	}
	return nil
}

func (s cdn) Run(ctx context.Context, say pipeline.Say) error {
	if s.d.CDN == nil {
		return pipeline.Refuse("%w", errNoCDN)
	}
	all := map[string]store.Asset{}
	// The old release's too: it may have been put on the nodes by another hand.
	for _, from := range []struct {
		n       Node
		release string
	}{{s.d.webs()[0], s.f.From.Version.String()}, {s.d.on(s.f.Builder).builder(), s.f.To.Version.String()}} {
		list, err := mastodon.ListPacks(ctx, from.n.Agent, mastodon.ListPacksIn{Layout: s.d.Layout, Release: from.release})
		if errors.Is(err, node.ErrNotFound) && from.release == s.f.From.Version.String() {
			say("%s has no manifest: whether its files lie in the bucket is not known", from.release)
			continue
		}
		if err != nil {
			return fmt.Errorf("cannot list the assets of %s: %w", from.release, err)
		}
		if from.release == s.f.To.Version.String() && s.f.Digest != "" && list.Digest != s.f.Digest {
			return fmt.Errorf("%s on %s is not the release that this run built (manifest %.12s, built %.12s), so none of its assets were copied to %s: start again with `refit upgrade --to %s`",
				list.Root, from.n.Name, list.Digest, s.f.Digest, s.d.CDN.Bucket, s.f.To.Version)
		}
		if err := s.copy(ctx, from.n, from.release, list, say); err != nil {
			return err
		}
		for _, e := range list.Files {
			a := asset(e)
			all[a.Path] = a
		}
	}
	return s.answered(ctx, all, say)
}

// asset is a manifest's entry as the bucket has it.
func asset(e node.Entry) store.Asset {
	return store.Asset{Path: strings.TrimPrefix(e.Path, "public/"), Size: e.Size}
}

// copy copies what the bucket lacks of a release.
func (s cdn) copy(ctx context.Context, n Node, release string, list mastodon.PackList, say pipeline.Say) error {
	var assets []store.Asset
	for _, e := range list.Files {
		assets = append(assets, asset(e))
	}
	lacking, err := s.d.CDN.Lacking(ctx, assets)
	if err != nil {
		return err
	}
	if len(lacking) == 0 {
		say("%s has all %d hashed files of %s", s.d.CDN.Bucket, len(assets), release)
		return nil
	}
	missing := map[string]bool{}
	for _, a := range lacking {
		missing[a.Path] = true
	}
	want := map[int]node.Entry{}
	in := node.PackIn{Root: list.Root, Digest: list.Digest}
	for i, e := range list.Files {
		if missing[asset(e).Path] {
			want[i] = e
		}
	}
	in.Indexes = slices.Sorted(maps.Keys(want))
	copying := s.d.CDN.Copying(ctx)
	err = n.Agent.Files(ctx, in, want, func(e node.Entry, b []byte) error { return copying.Add(asset(e), b) })
	if werr := copying.Wait(); werr != nil {
		return werr // what came of it is that no more could be added
	}
	if err != nil {
		return err
	}
	say("%d of %d hashed files of %s copied to %s", len(lacking), len(assets), release, s.d.CDN.Bucket)
	return nil
}

// answered asks CDN_HOST for every file of both releases.
func (s cdn) answered(ctx context.Context, all map[string]store.Asset, say pipeline.Say) error {
	var list []store.Asset
	for _, name := range slices.Sorted(maps.Keys(all)) {
		list = append(list, all[name])
	}
	faults, err := s.d.CDN.Answered(ctx, list)
	if err != nil {
		return fmt.Errorf("cannot ask %s for the assets: %w", s.d.CDN.Host, err)
	}
	if len(faults) > 0 {
		return fmt.Errorf("%s does not serve %d of %d hashed files as pages need them, %s first: %s", s.d.CDN.Host, len(faults), len(list), faults[0].Path, faults[0].Why)
	}
	say("%s answers all %d hashed files of both releases, for pages of %s", s.d.CDN.Host, len(list), s.d.CDN.Origin)
	return nil
}

// Undo leaves the copied files: no page names them.
func (cdn) Undo(context.Context, pipeline.Say) error { return nil }

// cdnSaid tells of a CDN_HOST that the nodes have and refit.yml does not, or the other way
// round.
func cdnSaid(d Deps, v *View) []string {
	var with, without []string
	for _, n := range d.webs() {
		f, ok := v.Facts[n.Name]
		if !ok || f.EnvError != "" {
			continue
		}
		if _, ok := f.Env["CDN_HOST"]; ok {
			with = append(with, n.Name)
		} else {
			without = append(without, n.Name)
		}
	}
	switch {
	case d.CDN == nil && len(with) > 0:
		return []string{fmt.Sprintf("%s: .env.production names a CDN_HOST, and refit.yml has no cdn: new assets are not copied there, so it must fetch what it lacks from the site", strings.Join(with, ", "))}
	case d.CDN != nil && len(without) > 0:
		return []string{fmt.Sprintf("%s: .env.production names no CDN_HOST, and refit.yml has the cdn %s: pages will not use it", strings.Join(without, ", "), d.CDN.Host)}
	}
	return nil
}
