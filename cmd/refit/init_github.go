package main

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/urfave/cli/v2"
)

// callers are the workflows of a config repository, which call those of refit's own. They
// name a repository, a commit and a release that never are.
//
//go:embed callers/*.yml
var callers embed.FS

// released is the release of refit that workflows pin.
type released struct {
	// repository is OWNER/NAME on GitHub, commit the release's, version its tag.
	repository, commit, version string
}

var (
	repositoryName = regexp.MustCompile(`^[A-Za-z0-9-]+/[A-Za-z0-9._-]+$`)
	commitName     = regexp.MustCompile(`^[0-9a-f]{40}$`)
	releaseName    = regexp.MustCompile(`^v[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$`)
)

// gitHubFlags are the flags of `refit init --github`.
func gitHubFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "github", Usage: "write the workflows of a config repository, .github/workflows/upgrade.yml and watch.yml, where they lack"},
		&cli.StringFlag{Name: "dir", Value: ".", Usage: "with --github: the config repository, `DIR`"},
		&cli.StringFlag{Name: "refit", Usage: "the refit that they pin, `OWNER/NAME@COMMIT` on GitHub (default: this one's)"},
		&cli.StringFlag{Name: "release", Usage: "its release's `TAG`, such as v1.2.3 (default: this one's)"},
	}
}

// initGitHub is `refit init --github`.
func (s streams) initGitHub(c *cli.Context) error {
	r := released{repository, commit, version}
	if text := c.String("refit"); text != "" {
		r.repository, r.commit, _ = strings.Cut(text, "@")
	}
	if text := c.String("release"); text != "" {
		r.version = text
	}
	if err := r.check(); err != nil {
		return exitWith(exitUsage, err)
	}
	written, kept, err := githubCallers(c.String("dir"), r)
	for _, name := range written {
		fmt.Fprintf(s.out, "written: %s\n", name)
	}
	for _, name := range kept {
		fmt.Fprintf(s.out, "left as it is: %s\n", name)
	}
	if err != nil {
		return err
	}
	s.progress()("next: commit them; make the environment \"production\" with reviewers; then docs/actions.md of refit says which secrets or which runner they need")
	return nil
}

func (r released) check() error {
	switch {
	case !repositoryName.MatchString(r.repository) || !commitName.MatchString(r.commit):
		return errors.New("this refit is no release, so it does not know what workflows should pin: say --refit OWNER/NAME@COMMIT, the commit in full")
	case !releaseName.MatchString(r.version):
		return errors.New("this refit is no release: say with --release which one workflows should fetch, such as v1.2.3")
	}
	return nil
}

// githubCallers writes the workflows into a config repository, and never over a file: what
// stands there is kept.
func githubCallers(dir string, r released) (written, kept []string, err error) {
	fill := strings.NewReplacer("OWNER/REPOSITORY", r.repository, strings.Repeat("0", 40), r.commit, "v0.0.0", r.version)
	list, err := fs.Glob(callers, "callers/*.yml")
	if err != nil {
		return nil, nil, fmt.Errorf("cannot read the workflows in this refit: %w", err)
	}
	into := filepath.Join(dir, ".github", "workflows")
	if err := os.MkdirAll(into, 0o755); err != nil {
		return nil, nil, fmt.Errorf("cannot make the folder of workflows: %w", err)
	}
	for _, from := range list {
		text, err := callers.ReadFile(from)
		if err != nil {
			return written, kept, fmt.Errorf("cannot read the workflows in this refit: %w", err)
		}
		name := filepath.Join(into, filepath.Base(from))
		f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
		if errors.Is(err, fs.ErrExist) {
			kept = append(kept, name)
			continue
		}
		if err != nil {
			return written, kept, fmt.Errorf("cannot write a workflow: %w", err)
		}
		_, err = f.WriteString(fill.Replace(string(text)))
		if err := errors.Join(err, f.Close()); err != nil {
			// Half a workflow would be kept by the next call.
			return written, kept, errors.Join(fmt.Errorf("cannot write %s: %w", name, err), os.Remove(name))
		}
		written = append(written, name)
	}
	return written, kept, nil
}
