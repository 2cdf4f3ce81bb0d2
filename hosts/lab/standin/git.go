package standin

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// repository is a bare git repository, worked on through the git command: the lab
// needs that anyhow, for its git servers.
type repository struct{ dir string }

// author of all commits and tags.
const (
	authorName  = "Stand-in Upstream"
	authorEmail = "upstream@lab.vmst.test"
)

func (r repository) create(ctx context.Context) error {
	_, err := r.git(ctx, nil, "init", "--quiet", "--bare", "--initial-branch=main", "--template=", r.dir)
	return err
}

// commit records tree as the release's commit and tags it. A commit follows from
// the tree, the parent and the table's entry alone.
func (r repository) commit(ctx context.Context, tree string, tag Tag, parent string) (string, error) {
	when, err := tag.when()
	if err != nil {
		return "", err
	}
	stamp := fmt.Sprintf("%d +0000", when.Unix())
	env := []string{
		"GIT_AUTHOR_NAME=" + authorName, "GIT_AUTHOR_EMAIL=" + authorEmail, "GIT_AUTHOR_DATE=" + stamp,
		"GIT_COMMITTER_NAME=" + authorName, "GIT_COMMITTER_EMAIL=" + authorEmail, "GIT_COMMITTER_DATE=" + stamp,
		"GIT_WORK_TREE=" + tree, "GIT_INDEX_FILE=" + filepath.Join(filepath.Dir(r.dir), "index"),
	}
	// --force: the tree's own .gitignore is about what a build adds to it.
	if _, err := r.git(ctx, env, "add", "--all", "--force", "."); err != nil {
		return "", err
	}
	id, err := r.git(ctx, env, "write-tree")
	if err != nil {
		return "", err
	}
	args := []string{"commit-tree", "-m", "Bump version to " + tag.Name + "\n\n" + tag.About, id}
	if parent != "" {
		args = append(args, "-p", parent)
	}
	commit, err := r.git(ctx, env, args...)
	if err != nil {
		return "", err
	}
	_, err = r.git(ctx, env, "tag", "--annotate", "-m", tag.Name, tag.Name, commit)
	return commit, err
}

// finish sets the branch main and makes the repository ready for servers that know
// nothing of git.
func (r repository) finish(ctx context.Context, main string) error {
	for _, args := range [][]string{
		{"update-ref", "refs/heads/main", main},
		{"repack", "-a", "-d", "--quiet"},
		{"update-server-info"},
	} {
		if _, err := r.git(ctx, nil, args...); err != nil {
			return err
		}
	}
	return nil
}

// git runs one git command on the repository, away from the machine's and the
// user's configuration, and returns what it printed, trimmed.
func (r repository) git(ctx context.Context, env []string, args ...string) (string, error) {
	settings := []string{"--git-dir=" + r.dir, "-c", "core.autocrlf=false", "-c", "core.fileMode=true", "-c", "core.symlinks=true", "-c", "gc.auto=0"}
	cmd := exec.CommandContext(ctx, "git", append(settings, args...)...)
	cmd.Dir = filepath.Dir(r.dir)
	for _, kv := range env {
		if dir, ok := strings.CutPrefix(kv, "GIT_WORK_TREE="); ok {
			cmd.Dir = dir
		}
	}
	cmd.Env = append(cleanEnv(os.Environ()), env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("cannot run git %s: %w: %s", args[0], err, strings.TrimSpace(errs.String()))
	}
	return strings.TrimSpace(out.String()), nil
}

// cleanEnv leaves out of env what would make git look elsewhere, and adds what
// keeps it from reading configuration.
func cleanEnv(env []string) []string {
	clean := []string{"GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "LC_ALL=C"}
	for _, kv := range env {
		if !strings.HasPrefix(kv, "GIT_") && !strings.HasPrefix(kv, "LC_") {
			clean = append(clean, kv)
		}
	}
	return clean
}
