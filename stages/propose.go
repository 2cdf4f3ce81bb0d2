package stages

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"vmst.io/refit/hosts/github"
	"vmst.io/refit/pipeline"
)

// Pulls is where commits are proposed as pull requests, for a branch that takes no pushes.
type Pulls interface {
	// Push pushes a commit to a branch of its own; git.Config.Propose.
	Push(ctx context.Context, commit, branch string) error
	// Head fetches such a branch and is where it stands; "" if there is none.
	Head(ctx context.Context, branch string) (commit string, err error)
	// Tree is the hash of a fetched commit's tree.
	Tree(commit string) (string, error)
	// Find is the newest pull request from a branch, in whatever state; the zero value if
	// there is none.
	Find(ctx context.Context, branch string) (github.Pull, error)
	// Open opens one. It is sent once.
	Open(ctx context.Context, branch, title, body string) (github.Pull, error)
	// Look is how one that was found stands now.
	Look(ctx context.Context, known github.Pull) (github.Pull, error)
	// Close closes one, and says why in it. One that was merged meanwhile stays merged.
	Close(ctx context.Context, number int, why string) (github.Pull, error)
}

// pullEvery is the pause between looks at a pull request that is waited for.
const pullEvery = 15 * time.Second

// subject is a message's first line.
func subject(message string) string {
	first, _, _ := strings.Cut(message, "\n")
	return first
}

// branchOf is where a run proposes a deed: nothing else is ever pushed there.
func branchOf(deed, run string) string {
	if deed == deedIntend {
		return "refit/" + run
	}
	return "refit/" + run + "-" + deed
}

// proposed is the pull request of a run's deed, with how it stands; zero if there is none.
// It is opened where commitOf says what of: a commit on the branch, then a pull request from it,
// each unless it is there. What was there before is a killed run's, or its answer was lost.
func (c *Configuration) proposed(ctx context.Context, deed, run, title, body string, commitOf func() (string, error)) (github.Pull, error) {
	branch := branchOf(deed, run)
	p, err := c.Pulls.Find(ctx, branch)
	if err != nil || p.Number > 0 || commitOf == nil {
		return p, err
	}
	commit, err := commitOf()
	if err != nil {
		return p, err
	}
	there, err := c.Pulls.Head(ctx, branch)
	if err != nil {
		return p, err
	}
	if there == "" {
		if err := c.Pulls.Push(ctx, commit, branch); err != nil {
			return p, err
		}
	}
	p, err = c.Pulls.Open(ctx, branch, title, body)
	if err == nil {
		return p, nil
	}
	// Its answer may have been lost: what is there decides.
	if found, ferr := c.Pulls.Find(ctx, branch); ferr == nil && found.Number > 0 {
		return found, nil
	}
	return p, fmt.Errorf("the branch %s of %s is pushed, and no pull request from it is open: %w", branch, c.Name, err)
}

// propose opens a pull request of what hosts are to be and waits until it is merged. What
// was merged must be what was proposed, file by file: anything else nobody has planned.
func (s intend) propose(ctx context.Context, say pipeline.Say) error {
	c, repo := s.f.Configs, s.d.Configs
	if c.Base == "" {
		return pipeline.Refuse("%s is empty: a pull request needs a branch to be merged into. Push a first commit, such as a README", repo.Name)
	}
	var commit string // of which it was opened just now
	p, err := repo.proposed(ctx, deedIntend, s.run, subject(s.message()), s.wanted(), func() (string, error) {
		head, err := repo.Repo.Fetch(ctx)
		if err != nil {
			return "", fmt.Errorf("the config repository cannot be read: %w", err)
		}
		if head != c.Base {
			return "", pipeline.Refuse("%s", stale(repo.Name, c.Base, head))
		}
		commit, err = s.commit(ctx)
		if err == nil && commit == c.Base {
			err = errNothing
		}
		return commit, err
	})
	if errors.Is(err, errNothing) {
		c.Intended = c.Base
		say("%s says already what hosts are to be", repo.Name)
		return nil
	}
	if err != nil {
		return fmt.Errorf("nothing is changed on any host: %w", err)
	}
	if commit != "" {
		say("proposed what hosts are to be: %s", p.URL)
	} else {
		say("found %s, opened before", p.URL)
	}
	want, err := s.wantedTree(ctx, p)
	if err != nil {
		return err
	}
	w := &merging{s: s, pull: p, want: want}
	g := s.d.gate("a person merges "+p.URL, 0, w.merged)
	g.Safe, g.Every, g.Within, g.Each = true, pullEvery, repo.Merge, time.Minute
	err = pipeline.Await(ctx, g, say)
	var late *pipeline.GateError
	if errors.As(err, &late) {
		return pipeline.Refuse("nobody has merged %s within %s (configs.pull_request.wait): nothing is changed on any host, and the way back closes it. Run again when somebody is there to merge: %w", p.URL, repo.Merge, late.Err)
	}
	if err != nil {
		return err
	}
	c.Intended = w.pull.Merged
	say("%s is merged as %.12s: what hosts are to be", p.URL, c.Intended)
	return nil
}

// errNothing: there is nothing to propose.
var errNothing = errors.New("there is nothing to propose")

// wantedTree is the tree that was proposed, by what is on the proposal's branch: of one that
// was opened before a kill, that it is what was planned is asked again.
func (s intend) wantedTree(ctx context.Context, p github.Pull) (string, error) {
	repo := s.d.Configs
	commit, err := s.commit(ctx)
	if err != nil {
		return "", fmt.Errorf("cannot tell whether %s is what was planned: %w", p.URL, err)
	}
	return repo.Pulls.Tree(commit)
}

// merging is one pull request that is waited for.
type merging struct {
	s    intend
	pull github.Pull
	want string
}

// merged is nil once what was proposed, and nothing else, is on the branch.
func (m *merging) merged(ctx context.Context) error {
	repo, base := m.s.d.Configs, m.s.f.Configs.Base
	is, err := repo.Pulls.Look(ctx, m.pull)
	if errors.Is(err, github.ErrDenied) || errors.Is(err, github.ErrNotFound) || errors.Is(err, github.ErrMoved) {
		return pipeline.Refuse("%s cannot be looked at any more, so nobody knows whether it is merged: %w. Nothing is changed on any host", m.pull.URL, err)
	}
	if err != nil {
		return err
	}
	m.pull = is
	head, err := repo.Repo.Fetch(ctx)
	if err != nil {
		return err
	}
	switch is.State {
	case github.PullClosed:
		return pipeline.Refuse("somebody closed %s without merging it: nothing is changed on any host. Ask who closed it and why; then plan again", is.URL)
	case github.PullMerged:
		return m.same(ctx, head)
	}
	tree, err := m.proposedTree(ctx)
	if err != nil {
		return err
	}
	if tree != m.want {
		return pipeline.Refuse("%s does not propose what was planned any more: somebody pushed to its branch. refit renders what hosts are to be, so change the templates on the branch itself; nothing is changed on any host. Plan again", is.URL)
	}
	if head != base {
		if is, err = repo.Pulls.Look(ctx, is); err != nil {
			return err
		}
		if m.pull = is; is.State == github.PullMerged {
			return m.same(ctx, head)
		}
		return pipeline.Refuse("%s. %s would not give what was planned any more: the way back closes it, and nothing is changed on any host", stale(repo.Name, base, head), is.URL)
	}
	if is.Draft {
		return errors.New("it is a draft: say there that it is ready, then merge it. Nothing is changed on any host before")
	}
	return errors.New("it is open: have it approved and merged. Nothing is changed on any host before")
}

// same is nil where the merge left exactly what was proposed, and the branch has it.
func (m *merging) same(ctx context.Context, head string) error {
	repo := m.s.d.Configs
	on, err := repo.has(ctx, m.pull.Merged)
	if err != nil {
		return err
	}
	if !on {
		return fmt.Errorf("GitHub calls it merged as %.12s, which the branch, at %.12s, does not show yet", m.pull.Merged, head)
	}
	tree, err := repo.Pulls.Tree(m.pull.Merged)
	if err != nil {
		return err
	}
	if tree != m.want {
		return pipeline.Refuse("%s is merged, and %.12s is not exactly what was proposed: the branch had moved, or the merge was changed by hand. What hosts would be given was not planned, so nothing is changed on any host. Plan again", m.pull.URL, m.pull.Merged)
	}
	return nil
}

// proposedTree is the tree of what the open pull request proposes now.
func (m *merging) proposedTree(ctx context.Context) (string, error) {
	repo := m.s.d.Configs
	tree, err := repo.Pulls.Tree(m.pull.Head)
	if err == nil {
		return tree, nil
	}
	// This machine may not have it: opened from another one, or pushed by somebody.
	if _, err := repo.Pulls.Head(ctx, branchOf(deedIntend, m.s.run)); err != nil {
		return "", err
	}
	return repo.Pulls.Tree(m.pull.Head)
}

// has tells whether the branch, as it was fetched, has a commit.
func (c *Configuration) has(ctx context.Context, commit string) (bool, error) {
	entries, err := c.Repo.Log(ctx, "", logged)
	if err != nil {
		return false, fmt.Errorf("the config repository cannot be read: %w", err)
	}
	for _, e := range entries {
		if e.Commit == commit {
			return true, nil
		}
	}
	return false, nil
}

// wanted is what a pull request of an intended state says to who reads it.
func (s intend) wanted() string {
	return fmt.Sprintf("refit is about to upgrade %s from %s to %s and waits for this to be merged, for %s. It is run `%s`, by %s.\n\n"+
		"- Merging it lets the run go on: by any way of merging, as long as the branch gets exactly these files.\n"+
		"- Closing it ends the run before anything is changed on any host.\n"+
		"- Any other commit on the branch meanwhile ends the run too: it has to be planned again.\n\n%s",
		s.d.Configs.Fleet.Name, s.f.From.Version, s.f.To.Version, s.d.Configs.Merge, s.run, s.d.Configs.By, trailers(deedIntend, s.run))
}

// payProposed is payConfigs where the branch takes no pushes: how it went is proposed, and
// its merge is nobody's to wait for. Taking back a run first closes what it proposed and
// nobody merged; then there is nothing to revert.
func (d Deps) payProposed(ctx context.Context, f *Facts, run string, o *OwedConfigs, say pipeline.Say) error {
	c, deed := d.Configs, deedOutcome
	if o.Revert {
		deed = deedRevert
		merged, err := c.withdraw(ctx, f, run, say)
		if err != nil || !merged {
			return err
		}
	}
	p, err := c.proposed(ctx, deed, run, subject(o.Message), o.Message+"\nThe run is over, and nothing waits for this. Until it is merged, the branch does not say how the run went.\n", func() (string, error) {
		head, err := c.Repo.Fetch(ctx)
		if err != nil {
			return "", err
		}
		changes, err := c.telling(f, head, o)
		if err != nil {
			return "", err
		}
		return c.Repo.Commit(ctx, head, changes, o.Message)
	})
	if err != nil {
		return err
	}
	f.Configs.Told = p.Head
	say("how it went is proposed to %s: %s; merge it, nothing waits for that", c.Name, p.URL)
	return nil
}

// withdraw closes the pull request of what a run intended, unless it is merged.
func (c *Configuration) withdraw(ctx context.Context, f *Facts, run string, say pipeline.Say) (merged bool, err error) {
	p, err := c.proposed(ctx, deedIntend, run, "", "", nil)
	if err == nil && p.State == github.PullOpen {
		p, err = c.Pulls.Close(ctx, p.Number, fmt.Sprintf("Run `%s` was taken back before this was merged: no host was changed by it. Closed by refit.\n\n%s", run, trailers(deedIntend, run)))
		if err == nil && p.State == github.PullClosed {
			say("closed %s: the run is taken back", p.URL)
		}
	}
	if err != nil || p.State != github.PullMerged {
		return false, err
	}
	if f.Configs.Intended == "" {
		f.Configs.Intended = p.Merged
	}
	_, err = c.Repo.Fetch(ctx)
	return true, err
}

// intends is what the plan says of the step intend.
func (c *Configuration) intends() string {
	if c != nil && c.Pulls != nil {
		return fmt.Sprintf("propose what hosts are to be in a pull request, and wait up to %s until it is merged, before any of it is changed", c.Merge)
	}
	return "commit and push what hosts are to be, before any of it is changed"
}
