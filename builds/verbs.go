package builds

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"vmst.io/refit/hosts/git"
	"vmst.io/refit/hosts/node"
)

// Verbs are what a builder host does itself, beside the jobs.
func Verbs() []node.Verb {
	return []node.Verb{
		{Name: "build.look", Run: node.Typed(func(ctx context.Context, in LookIn, _ io.Reader, _ func(string)) (LookOut, error) {
			return look(ctx, in)
		})},
		{Name: "build.reach", Run: node.Typed(func(ctx context.Context, in ReachIn, _ io.Reader, _ func(string)) (ReachOut, error) {
			return reach(ctx, in)
		})},
		{Name: "git.checkout", Changes: true, Run: node.Typed(func(ctx context.Context, in CheckoutIn, _ io.Reader, say func(string)) (CheckoutOut, error) {
			return checkout(ctx, in, say)
		})},
		{Name: "build.link", Changes: true, Run: node.Typed(func(ctx context.Context, in LinkIn, _ io.Reader, _ func(string)) (struct{}, error) {
			return link(ctx, in)
		})},
		{Name: "build.yarn", Changes: true, Run: node.Typed(func(ctx context.Context, in YarnIn, _ io.Reader, say func(string)) (YarnOut, error) {
			return yarn(ctx, in, say)
		})},
		{Name: "build.take", Changes: true, Run: node.Typed(func(ctx context.Context, in PartIn, _ io.Reader, _ func(string)) (TakeOut, error) {
			return take(ctx, in)
		})},
		{Name: "build.clear", Changes: true, Run: node.Typed(func(ctx context.Context, in PartIn, _ io.Reader, _ func(string)) (struct{}, error) {
			return clearPart(ctx, in)
		})},
		{Name: "build.keep", Changes: true, Run: node.Typed(func(ctx context.Context, in PartIn, _ io.Reader, _ func(string)) (TakeOut, error) {
			return keep(ctx, in)
		})},
		{Name: "build.gems", Changes: true, Run: node.Typed(func(ctx context.Context, in GemsIn, _ io.Reader, _ func(string)) (GemsOut, error) {
			return gems(ctx, in)
		})},
		{Name: "build.settle", Changes: true, Run: node.Typed(func(ctx context.Context, in SettleIn, _ io.Reader, _ func(string)) (struct{}, error) {
			return settle(ctx, in)
		})},
		{Name: "build.log", Changes: true, Run: node.Typed(func(ctx context.Context, in LogIn, _ io.Reader, _ func(string)) (LogOut, error) {
			return keepLog(ctx, in)
		})},
		{Name: "build.evict", Changes: true, Run: node.Typed(func(ctx context.Context, in EvictIn, _ io.Reader, _ func(string)) (EvictOut, error) {
			return evict(ctx, in)
		})},
		{Name: "build.clean", Changes: true, Run: node.Typed(func(ctx context.Context, in CleanIn, _ io.Reader, _ func(string)) (CleanOut, error) {
			return clean(ctx, in)
		})},
		{Name: "build.verify", Run: node.Typed(func(ctx context.Context, in VerifyIn, _ io.Reader, _ func(string)) (VerifyOut, error) {
			return verify(ctx, in)
		})},
		{Name: "build.finish", Changes: true, Run: node.Typed(func(ctx context.Context, in FinishIn, _ io.Reader, _ func(string)) (FinishOut, error) {
			return finish(ctx, in)
		})},
		{Name: "source.show", Run: node.Typed(func(ctx context.Context, in SourceIn, _ io.Reader, _ func(string)) (SourceOut, error) {
			return sourceShow(ctx, in)
		})},
		{Name: "build.remove", Changes: true, Run: node.Typed(func(ctx context.Context, in RemoveIn, _ io.Reader, _ func(string)) (RemoveOut, error) {
			return remove(ctx, in)
		})},
	}
}

// ReachIn asks whether the builder host reaches what a build fetches from.
type ReachIn struct {
	URL        string        `json:"url"`
	InsteadOf  []git.Rewrite `json:"instead_of,omitempty"`
	KnownHosts string        `json:"known_hosts,omitempty"`
	KeyFile    string        `json:"key_file,omitempty"`
	Tag        string        `json:"tag"`
	// Dir is the release's folder.
	Dir string `json:"dir"`
	// Gems and NPM are the registries' base URLs; empty for the public ones.
	Gems     string   `json:"gems,omitempty"`
	NPM      string   `json:"npm,omitempty"`
	Yarn     string   `json:"yarn"`
	Patience Patience `json:"patience,omitzero"`
}

// ReachOut is what the sources said.
type ReachOut struct {
	// Tag is the hash of the tag's reference.
	Tag string `json:"tag"`
}

func reach(ctx context.Context, in ReachIn) (ReachOut, error) {
	if err := noSettingsAbove(in.Dir); err != nil {
		return ReachOut{}, err
	}
	hash, err := git.Probe(ctx, git.Options{URL: in.URL, InsteadOf: in.InsteadOf, KnownHosts: in.KnownHosts, KeyFile: in.KeyFile, Silence: 30 * time.Second}, in.Tag)
	if err != nil {
		return ReachOut{}, err
	}
	if _, err := yarnDist(ctx, in.Patience, registryOr(in.NPM), in.Yarn); err != nil {
		return ReachOut{}, err
	}
	gems := in.Gems
	if gems == "" {
		gems = "https://rubygems.org"
	}
	// "versions" is the file that every registry of Bundler's kind must have.
	if err := head(ctx, gems+"/versions"); err != nil {
		return ReachOut{}, err
	}
	return ReachOut{Tag: hash}, nil
}

func head(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, url, nil)
	if err != nil {
		return fmt.Errorf("cannot ask for %s: %w", url, err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("cannot reach the gem registry: %w", err)
	}
	if err := resp.Body.Close(); err != nil {
		return fmt.Errorf("cannot reach the gem registry: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s is no gem registry that Bundler can use: it answered %s", url, resp.Status)
	}
	return nil
}

// syncFS puts everything written to dir's file system onto its disk.
func syncFS(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := node.Syncfs(int(d.Fd())); err != nil {
		return fmt.Errorf("cannot flush %s to disk: %w", dir, err)
	}
	return nil
}
