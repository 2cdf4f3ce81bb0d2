package stages

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"vmst.io/refit/hosts/configs"
	"vmst.io/refit/hosts/git"
	"vmst.io/refit/pipeline"
)

// intend commits what the fleet is about to be to the config repository, and pushes it,
// before the first change that users could feel. A branch that has moved since the plan ends
// the run.
type intend struct {
	d   Deps
	f   *Facts
	run string
}

func (intend) Name() string { return "intend" }

func (intend) Check(context.Context, pipeline.Say) error { return nil }

// Run looks for the run's own commit first: a push whose answer was lost, or after which
// refit was killed, is not made twice.
func (s intend) Run(ctx context.Context, say pipeline.Say) error {
	c, repo := s.f.Configs, s.d.Configs
	if repo == nil {
		return pipeline.Refuse("%w", errNoConfigs)
	}
	if repo.Pulls != nil {
		return s.propose(ctx, say)
	}
	head, err := repo.Repo.Fetch(ctx)
	if err != nil {
		return fmt.Errorf("the config repository cannot be read: %w", err)
	}
	if pushed, err := repo.pushed(ctx, deedIntend, s.run); err != nil || pushed != "" {
		c.Intended = pushed
		if err == nil {
			say("found %.12s in %s, pushed before", pushed, repo.Name)
		}
		return err
	}
	if head != c.Base {
		return pipeline.Refuse("%s", stale(repo.Name, c.Base, head))
	}
	commit, err := s.commit(ctx)
	if err != nil {
		return err
	}
	if commit == c.Base {
		c.Intended = commit
		say("%s says already what hosts are to be", repo.Name)
		return nil
	}
	err = repo.Repo.Push(ctx, commit, c.Base)
	if errors.Is(err, git.ErrMoved) {
		return pipeline.Refuse("%s has moved while refit pushed: somebody else was first (%w). Plan again", repo.Name, err)
	}
	if err != nil {
		return fmt.Errorf("%s cannot be pushed to, so nothing is changed: %w", repo.Name, err)
	}
	c.Intended = commit
	say("%s has %.12s: what hosts are to be", repo.Name, commit)
	return nil
}

// commit makes the commit of what hosts are to be, on the plan's base; the base itself where
// that says so already.
func (s intend) commit(ctx context.Context) (string, error) {
	changes, err := s.changes()
	if err != nil {
		return "", err
	}
	commit, err := s.d.Configs.Repo.Commit(ctx, s.f.Configs.Base, changes, s.message())
	if err != nil {
		return "", fmt.Errorf("cannot commit to the config repository: %w", err)
	}
	return commit, nil
}

// changes are refit's files as they are to be, from what was planned and nothing else.
func (s intend) changes() (map[string][]byte, error) {
	repo, c := s.d.Configs, s.f.Configs
	planned, _, err := repo.render(c.Base, s.f.configRelease(""))
	if err != nil {
		return nil, pipeline.Refuse("the config repository at %.12s: %w", c.Base, err)
	}
	if differ := differing(c.Files, sums(planned)); len(differ) > 0 {
		return nil, pipeline.Refuse("what the templates give is not what was planned (%s): refit.yml or the release has changed since. Plan again", strings.Join(differ, ", "))
	}
	files, tree, err := repo.render(c.Base, s.f.configRelease(s.f.Digest))
	if err != nil {
		return nil, pipeline.Refuse("the config repository at %.12s: %w", c.Base, err)
	}
	now, err := configs.Tree(files, s.f.configRelease(s.f.Digest))
	if err != nil {
		return nil, err
	}
	if found := suspects(now); len(found) > 0 {
		return nil, pipeline.Refuse("%s", strings.Join(found, "\n  "))
	}
	changes, err := configs.Removed(tree, now)
	for name, content := range now {
		changes[name] = content
	}
	return changes, err
}

func differing(a, b map[string]map[string]string) []string {
	var out []string
	for _, pair := range [][2]map[string]map[string]string{{a, b}, {b, a}} {
		for host, files := range pair[0] {
			for p, sum := range files {
				if pair[1][host][p] != sum {
					out = append(out, host+":"+p)
				}
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (s intend) message() string {
	return fmt.Sprintf("%s: intend %s\n\nfrom %s, by %s\n\n%s", s.d.Configs.Fleet.Name, s.f.To.Version, s.f.From.Version, s.d.Configs.By, trailers(deedIntend, s.run))
}

// Undo says in the repository that the fleet is what it was, and why. It holds nothing up:
// what cannot be pushed is owed.
func (s intend) Undo(ctx context.Context, say pipeline.Say) error {
	c, repo := s.f.Configs, s.d.Configs
	if repo != nil && repo.Pulls == nil && c.Intended == "" {
		looking, cancel := context.WithTimeout(ctx, tellWithin)
		defer cancel()
		_, err := repo.Repo.Fetch(looking)
		if err == nil {
			c.Intended, err = repo.pushed(looking, deedIntend, s.run)
		}
		if err == nil && c.Intended == "" {
			return nil // it never came to a push
		}
	}
	if c.Intended == c.Base {
		return nil
	}
	return s.d.tellConfigs(ctx, s.f, s.run, true, say)
}

// The deeds of a run's commits.
const (
	deedIntend  = "intend"
	deedOutcome = "outcome"
	deedRevert  = "revert"
)

// tellWithin bounds what is said to the repository on the way back and at the end.
const tellWithin = 2 * time.Minute

// logged is how many commits are looked through for a run's own.
const logged = 500

// trailers are the lines by which a commit of a run is found again.
func trailers(deed, run string) string {
	return fmt.Sprintf("Refit-Run: %s\nRefit-Deed: %s\n", run, deed)
}

// pushed is the commit of a run's deed on the branch as it was fetched; "" for none.
func (c *Configuration) pushed(ctx context.Context, deed, run string) (string, error) {
	entries, err := c.Repo.Log(ctx, "", logged)
	if err != nil {
		return "", fmt.Errorf("the config repository cannot be read: %w", err)
	}
	for _, e := range entries {
		if lines := strings.Split(e.Body, "\n"); slices.Contains(lines, "Refit-Run: "+run) && slices.Contains(lines, "Refit-Deed: "+deed) {
			return e.Commit, nil
		}
	}
	return "", nil
}
