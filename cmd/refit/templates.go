package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/urfave/cli/v2"

	"vmst.io/refit/builds"
	"vmst.io/refit/builds/notes"
	"vmst.io/refit/builds/upstream"
	"vmst.io/refit/hosts/configs"
	"vmst.io/refit/stages"
)

// shippedIn is the folder of a release whose files admins copy.
const shippedIn = "dist"

// templatesUnread is what is acknowledged where nobody could tell what a release means for templates.
const templatesUnread = "templates-unread"

func templatesCommand(s streams) *cli.Command {
	return &cli.Command{
		Name:  "templates",
		Usage: "show what a release's own units and nginx.conf mean for the templates of a config repository; --write puts in what merges cleanly",
		Flags: []cli.Flag{
			configFlag(), toFlag(),
			&cli.StringFlag{Name: "from", Usage: "the `RELEASE` that runs (default: the one that refit.lock names)"},
			&cli.StringFlag{Name: "dir", Value: ".", Usage: "a checkout of the config repository, `DIR`; nothing is committed there"},
			&cli.BoolFlag{Name: "write", Usage: "write what merges cleanly into its templates"},
		},
		Action: func(c *cli.Context) error {
			conf, err := loadConfig(c.String("config"))
			if err != nil {
				return err
			}
			to, err := builds.ParseVersion(c.String("to"))
			if err != nil {
				return exitWith(exitUsage, fmt.Errorf("--to %w", err))
			}
			from, err := fromRelease(c.String("dir"), c.String("from"))
			if err != nil {
				return exitWith(exitUsage, err)
			}
			ctx, _, done := trap(c.Context, s.notice)
			defer done()
			source, err := conf.source()
			if err != nil {
				return exitWith(exitUsage, err)
			}
			return s.templates(ctx, source, from, to, c.String("dir"), c.Bool("write"))
		},
	}
}

// fromRelease is the release that a checkout's lock names, unless another was said.
func fromRelease(dir, said string) (builds.Version, error) {
	if said != "" {
		v, err := builds.ParseVersion(said)
		if err != nil {
			return v, fmt.Errorf("--from %w", err)
		}
		return v, nil
	}
	lock, _, err := configs.ReadTree(os.DirFS(dir))
	if err != nil {
		return builds.Version{}, fmt.Errorf("cannot tell which release runs (say it with --from): %w", err)
	}
	return builds.ParseVersion(lock.Version)
}

// templates says what a release means for the templates of a checkout.
func (s streams) templates(ctx context.Context, source *upstream.Source, from, to builds.Version, dir string, write bool) error {
	theirs, err := templatesIn(os.DirFS(dir))
	if err != nil {
		return exitWith(exitUsage, err)
	}
	list, err := proposals(ctx, source, from, to, theirs)
	if err != nil {
		return err
	}
	persons := 0
	for _, p := range list {
		fmt.Fprintf(s.out, "%s: %s\n", p.Kind, p.Why)
		for _, c := range p.Conflicts {
			fmt.Fprintf(s.out, "  %s\n", strings.ReplaceAll(conflictText(p, c), "\n", "\n  "))
		}
		if personal(p) {
			persons++
		}
		if p.Kind != configs.ProposalMerged || !write {
			continue
		}
		name := filepath.Join(dir, configs.Templates, filepath.FromSlash(p.Template))
		if err := replaceContent(name, p.Merged); err != nil {
			return err
		}
		fmt.Fprintf(s.out, "  written: %s; look at it with git diff, and commit it\n", name)
	}
	switch {
	case len(list) == 0:
		fmt.Fprintf(s.out, "%s changes nothing of what templates are made of since %s\n", to, from)
	case persons > 0:
		return exitWith(exitPerson, fmt.Errorf("%s to decide by hand", count(persons, "change")))
	}
	return nil
}

// replaceContent puts other content into a file that is there, whole or not at all.
func replaceContent(name string, content []byte) error {
	info, err := os.Stat(name)
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", name, err)
	}
	next := name + ".refit-new"
	err = os.WriteFile(next, content, info.Mode().Perm())
	if err == nil {
		err = os.Rename(next, name)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("cannot write %s: %w", name, err), os.RemoveAll(next))
	}
	return nil
}

// templatesIn are the templates of a config repository, by path below templates/.
func templatesIn(repo fs.FS) (map[string][]byte, error) {
	out := map[string][]byte{}
	err := fs.WalkDir(repo, configs.Templates, func(name string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && name == configs.Templates {
			return fs.SkipAll
		}
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		b, err := fs.ReadFile(repo, name)
		out[strings.TrimPrefix(name, configs.Templates+"/")] = b
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot read the templates: %w", err)
	}
	return out, nil
}

func proposals(ctx context.Context, source *upstream.Source, from, to builds.Version, theirs map[string][]byte) ([]configs.Proposal, error) {
	old, err := source.Folder(ctx, from, shippedIn)
	if err != nil {
		return nil, err
	}
	next, err := source.Folder(ctx, to, shippedIn)
	if err != nil {
		return nil, err
	}
	return configs.Upstream(old, next, theirs), nil
}

// personal tells whether a person must decide before an upgrade.
func personal(p configs.Proposal) bool {
	return p.Kind == configs.ProposalConflict || p.Kind == configs.ProposalRemoved
}

func conflictText(p configs.Proposal, c configs.Conflict) string {
	side := func(title, text string) string {
		if strings.TrimSpace(text) == "" {
			return title + ": nothing\n"
		}
		return title + ":\n    " + strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n    ") + "\n"
	}
	return strings.TrimRight(fmt.Sprintf("templates/%s, line %d\n", p.Template, c.Line)+
		side("  yours", c.Theirs)+side("  the running release's", c.Old)+side("  the new release's", c.New), "\n")
}

// templates makes a plan's items of what the release means for the templates that the plan
// was made on: a conflict and what has gone are a person's, and stand against the plan until
// they are acknowledged; the rest is said.
func (w *way) templates(ctx context.Context, source *upstream.Source, repo *stages.Configuration, f *stages.Facts) {
	if repo == nil || f.Configs == nil {
		return
	}
	var theirs map[string][]byte
	tree, err := repo.Repo.FS(f.Configs.Base)
	if err == nil {
		theirs, err = templatesIn(tree)
	}
	var list []configs.Proposal
	if err == nil && len(theirs) > 0 {
		list, err = proposals(ctx, source, f.From.Version, f.To.Version, theirs)
	}
	if err != nil {
		w.lacks(templatesUnread, "what the release's own units and nginx.conf mean for your templates could not be found out: compare dist/ of the two releases yourself", err.Error())
		return
	}
	for _, p := range list {
		if !personal(p) {
			more := ""
			if p.Kind == configs.ProposalMerged {
				more = fmt.Sprintf("; `refit templates --to %s --write` writes it into a checkout, to be looked at and committed", f.To.Version)
			}
			w.said = append(w.said, p.Why+more)
			continue
		}
		it := notes.Item{Name: templateItem(p), By: notes.Admin, Why: p.Why}
		for _, c := range p.Conflicts {
			it.Texts = append(it.Texts, conflictText(p, c))
		}
		w.items = append(w.items, it)
	}
}

var notInNames = regexp.MustCompile(`[^a-z0-9]+`)

// templateItem is what --ack takes for a proposal.
func templateItem(p configs.Proposal) string {
	return "template-" + strings.Trim(notInNames.ReplaceAllString(strings.ToLower(p.Template), "-"), "-")
}
