package git_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	gogit "github.com/go-git/go-git/v5"
	gitconfig "github.com/go-git/go-git/v5/config"
	githttp "github.com/go-git/go-git/v5/plumbing/transport/http"

	"vmst.io/refit/hosts/configs"
	"vmst.io/refit/hosts/git"
)

// hands is one course: two operators who render and commit, and a person who edits
// templates, all on one branch.
type hands struct {
	t     *testing.T
	forge *forge
	// flaw is what is broken on purpose; empty for nothing.
	flaw string
	// moved and unsure count pushes that found the branch elsewhere, and those that
	// nobody could tell of.
	moved, unsure atomic.Int32
}

const (
	runsEach  = 2
	editsEach = 3
	motd      = "templates/all/etc/motd"
)

var crew = configs.Fleet{Name: "f", Domain: "d", Hosts: []configs.Host{{Name: "kirk", Roles: []string{"web"}}, {Name: "scotty", Roles: []string{"sidekiq"}}}}

// clone is somebody's own clone; the token says who asks.
func (h *hands) clone(ctx context.Context, who string) (*git.Config, string, error) {
	dir := filepath.Join(h.t.TempDir(), who)
	c, err := git.OpenConfig(ctx, git.ConfigOptions{
		URL: h.forge.url, Branch: "main", Dir: dir, Now: moment, Author: git.Person{Name: who, Email: who + "@example.org"},
		Token: func() (string, error) { return who, nil },
	})
	return c, dir, err
}

// operator renders what the branch holds for each of its runs, commits and pushes.
func (h *hands) operator(ctx context.Context, who string) error {
	c, dir, err := h.clone(ctx, who)
	if err != nil {
		return err
	}
	var stale map[string][]byte
	for n := range runsEach {
		page, content := configs.History(configs.Entry{Run: fmt.Sprint(who, n), Deed: "upgrade", To: fmt.Sprint("v4.5.", n, "-", who), Started: moment(), By: []string{who}})
		err := h.land(ctx, c, dir, func(repo fs.FS) (map[string][]byte, error) {
			r := configs.Release{Version: fmt.Sprint("v4.5.", n, "-", who)}
			changes, err := renderOf(repo, r)
			if err != nil {
				return nil, err
			}
			switch {
			case h.flaw == "renders once" && stale != nil:
				changes = maps.Clone(stale)
				delete(changes, motd)
			case h.flaw == "commits what it read first" && stale != nil:
				changes[motd] = stale[motd]
			}
			if stale == nil {
				stale = maps.Clone(changes)
				if stale[motd], err = fs.ReadFile(repo, motd); err != nil {
					return nil, err
				}
			}
			changes[page] = content
			if found := configs.Scan(changes); len(found) > 0 {
				return nil, fmt.Errorf("%+v", found)
			}
			return changes, nil
		})
		if err != nil {
			return fmt.Errorf("%s, run %d: %w", who, n, err)
		}
	}
	return nil
}

// person adds a line to a template and a file of their own at each edit.
func (h *hands) person(ctx context.Context, who string) error {
	c, dir, err := h.clone(ctx, who)
	if err != nil {
		return err
	}
	for n := range editsEach {
		err := h.land(ctx, c, dir, func(repo fs.FS) (map[string][]byte, error) {
			was, err := fs.ReadFile(repo, motd)
			return map[string][]byte{
				motd:                          append(bytes.Clone(was), fmt.Sprintf("line %d of %s\n", n, who)...),
				fmt.Sprintf("notes/%d.md", n): []byte("by hand\n"),
			}, err
		})
		if err != nil {
			return fmt.Errorf("%s, edit %d: %w", who, n, err)
		}
	}
	return nil
}

// renderOf is what refit commits for a state of the repository.
func renderOf(repo fs.FS, r configs.Release) (map[string][]byte, error) {
	templates, err := fs.Sub(repo, configs.Templates)
	if err != nil {
		return nil, err
	}
	rendered, err := configs.Render(templates, crew, r)
	if err != nil {
		return nil, err
	}
	tree, err := configs.Tree(rendered, r)
	if err != nil {
		return nil, err
	}
	gone, err := configs.Removed(repo, tree)
	maps.Copy(tree, gone)
	return tree, err
}

// land commits what is made of the branch, anew whenever the branch has moved.
func (h *hands) land(ctx context.Context, c *git.Config, dir string, of func(fs.FS) (map[string][]byte, error)) error {
	for range 100 {
		base, err := c.Fetch(ctx)
		if err != nil {
			return err
		}
		repo, err := c.FS(base)
		if err != nil {
			return err
		}
		changes, err := of(repo)
		if err != nil {
			return err
		}
		commit, err := c.Commit(ctx, base, changes, "a commit")
		if err != nil {
			return err
		}
		for err = git.ErrUnreachable; errors.Is(err, git.ErrUnreachable); {
			if h.flaw == "forces" {
				err = force(ctx, h.forge.url, dir, commit)
				continue
			}
			if err = c.Push(ctx, commit, base); errors.Is(err, git.ErrUnreachable) {
				h.unsure.Add(1)
			}
		}
		if !errors.Is(err, git.ErrMoved) {
			return err
		}
		h.moved.Add(1)
	}
	return errors.New("the branch moved a hundred times")
}

// force is the push that must never be.
func force(ctx context.Context, url, dir, commit string) error {
	repo, err := gogit.PlainOpen(dir)
	if err != nil {
		return err
	}
	remote := gogit.NewRemote(repo.Storer, &gitconfig.RemoteConfig{Name: "origin", URLs: []string{url}})
	err = remote.PushContext(ctx, &gogit.PushOptions{
		RemoteName: "origin", Force: true, RefSpecs: []gitconfig.RefSpec{gitconfig.RefSpec(commit + ":refs/heads/main")},
		Auth: &githttp.BasicAuth{Username: "x", Password: filepath.Base(dir)},
	})
	if err == nil || errors.Is(err, gogit.NoErrAlreadyUpToDate) {
		return nil
	}
	return errors.Join(git.ErrUnreachable, err)
}

// course plays one course and returns what is wrong at its end, nothing if all is well.
func course(t *testing.T, seed uint64, flaw string) ([]string, *hands) {
	t.Helper()
	ctx := t.Context()
	h := &hands{t: t, forge: newForge(t), flaw: flaw}
	first, _, err := h.clone(ctx, "first")
	if err != nil {
		t.Fatal(err)
	}
	start, err := first.Commit(ctx, "", map[string][]byte{motd: []byte("welcome\n"), "refit.yml": []byte("fleet: f\n")}, "begin")
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Push(ctx, start, ""); err != nil {
		t.Fatal(err)
	}
	h.forge.blind = flaw == "the server is blind"
	errs := make([]error, 3)
	h.forge.play(seed, map[string]func(){
		"uhura": func() { errs[0] = h.operator(ctx, "uhura") },
		"sulu":  func() { errs[1] = h.operator(ctx, "sulu") },
		"ann":   func() { errs[2] = h.person(ctx, "ann") },
	})
	if err := errors.Join(errs...); err != nil {
		return []string{err.Error()}, h
	}
	h.forge.blind = false
	return h.faults(ctx), h
}

// faults compares the end with all that was ever taken and all that was meant.
func (h *hands) faults(ctx context.Context) (out []string) {
	bad := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	c, _, err := h.clone(ctx, "reader")
	if err != nil {
		return []string{err.Error()}
	}
	head, err := c.Fetch(ctx)
	if err != nil {
		return []string{err.Error()}
	}
	log, err := c.Log(ctx, "", 0)
	if err != nil {
		return []string{err.Error()}
	}
	inEnd, by := map[string]git.Entry{}, map[string]int{}
	for _, e := range log {
		inEnd[e.Commit] = e
		by[e.Author.Name]++
		if len(e.Parents) > 1 {
			bad("%s is a merge", e.Commit)
		}
	}
	at := ""
	for i, u := range h.forge.accepted {
		if i > 0 && u.old.String() != at {
			bad("push %d went over %s", i, at)
		}
		at = u.new.String()
		e, there := inEnd[at]
		if !there {
			bad("%s was taken and is no ancestor of the end", at)
		} else if i > 0 && (len(e.Parents) != 1 || e.Parents[0] != u.old.String()) {
			bad("%s does not stand on what it replaced", at)
		}
	}
	if at != head {
		bad("the branch is at %s, the last push left it at %s", head, at)
	}
	for who, want := range map[string]int{"first": 1, "uhura": runsEach, "sulu": runsEach, "ann": editsEach} {
		if by[who] != want {
			bad("%s has %d commits, made %d", who, by[who], want)
		}
	}
	end, err := c.FS(head)
	if err != nil {
		return append(out, err.Error())
	}
	want := "welcome\n"
	for n := range editsEach {
		want += fmt.Sprintf("line %d of ann\n", n)
		if _, err := fs.Stat(end, fmt.Sprintf("notes/%d.md", n)); err != nil {
			bad("a file of the person is lost: %v", err)
		}
	}
	if got, err := fs.ReadFile(end, motd); err != nil || string(got) != want {
		bad("the person's template is %q (%v)", got, err)
	}
	pages, err := fs.ReadDir(end, configs.HistoryDir)
	if err != nil || len(pages) != 2*runsEach {
		bad("%d pages of history, want %d (%v)", len(pages), 2*runsEach, err)
	}
	for _, e := range log {
		if e.Author.Name == "uhura" || e.Author.Name == "sulu" {
			if why := untrue(c, e.Commit); why != "" {
				bad("commit %s of %s: %s", e.Commit, e.Author.Name, why)
			}
		}
	}
	return out
}

// untrue tells where what a commit has rendered is not what its own templates give.
func untrue(c *git.Config, commit string) string {
	repo, err := c.FS(commit)
	if err != nil {
		return err.Error()
	}
	lock, _, err := configs.ReadTree(repo)
	if err != nil {
		return err.Error()
	}
	want, err := renderOf(repo, configs.Release{Version: lock.Version})
	if err != nil {
		return err.Error()
	}
	for name, content := range want {
		if got, err := fs.ReadFile(repo, name); content == nil || err != nil || !bytes.Equal(got, content) {
			return fmt.Sprintf("%s is not what the templates beside it give", name)
		}
	}
	return ""
}

// Two operators and a person push to one branch at the same moments; some pushes never
// arrive and some answers are lost. Nothing is lost, nothing forced, and each commit of
// an operator is rendered from the very templates it stands on.
func TestTwoOperatorsAndAPersonLoseNothingOfEachOther(t *testing.T) {
	courses, at := uint64(200), uint64(4)
	if raced || testing.Short() {
		courses = 20
	}
	var moved, unsure atomic.Int32
	t.Run("courses", func(t *testing.T) {
		for part := range at {
			t.Run(fmt.Sprint(part), func(t *testing.T) {
				t.Parallel()
				for seed := part; seed < courses; seed += at {
					faults, h := course(t, seed, "")
					if len(faults) > 0 {
						t.Fatalf("seed %d:\n%s", seed, strings.Join(faults, "\n"))
					}
					moved.Add(h.moved.Load())
					unsure.Add(h.unsure.Load())
				}
			})
		}
	})
	t.Logf("%d courses, %d pushes found the branch moved, %d had to be repeated", courses, moved.Load(), unsure.Load())
	if moved.Load() < int32(courses) || unsure.Load() < int32(courses/4) {
		t.Error("hardly anybody met anybody: the courses show nothing")
	}
}

// The checks above find what they are for.
func TestACourseWithAFlawIsFoundOut(t *testing.T) {
	for _, flaw := range []string{"forces", "the server is blind", "renders once", "commits what it read first"} {
		t.Run(flaw, func(t *testing.T) {
			for seed := range uint64(20) {
				if faults, _ := course(t, seed, flaw); len(faults) > 0 {
					t.Logf("seed %d: %s", seed, faults[0])
					return
				}
			}
			t.Error("20 courses, and nothing was found")
		})
	}
}
