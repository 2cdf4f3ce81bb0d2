package stages

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"vmst.io/refit/hosts/configs"
)

// ExamineConfigs says what stands against using the config repository, and what is to be
// known of it: it can be read, its templates render for every host, no secret is in them,
// and what they give for the release of the lock is what is committed.
func (d Deps) ExamineConfigs(ctx context.Context) (refused, said []string) {
	if d.Configs == nil {
		return nil, nil
	}
	bad := func(err error) []string { return []string{fmt.Sprintf("the config repository: %v", err)} }
	head, err := d.Configs.Repo.Fetch(ctx)
	if err != nil {
		return bad(err), nil
	}
	tree, err := d.Configs.Repo.FS(head)
	if err != nil {
		return bad(err), nil
	}
	templates, err := templatesOf(tree)
	if err != nil {
		return bad(err), nil
	}
	if refused = suspects(templates); len(refused) > 0 {
		return refused, nil
	}
	lock, committed, err := configs.ReadTree(tree)
	if errors.Is(err, configs.ErrNoLock) {
		return nil, []string{fmt.Sprintf("the config repository at %.12s has %d templates, and refit has committed nothing there yet: the next upgrade does", head, len(templates))}
	}
	if err != nil {
		return bad(err), nil
	}
	files, _, err := d.Configs.render(head, configs.Release{
		Version: lock.Version, Commit: lock.Commit, Tree: lock.Tree, Artifact: lock.Artifact, Toolchains: lock.Toolchains, Images: lock.Images,
	})
	if err != nil {
		return bad(err), nil
	}
	if differ := differing(sums(files), sums(committed)); len(differ) > 0 {
		said = append(said, "the config repository: templates or hosts have changed since refit rendered them; the next upgrade brings "+strings.Join(differ, ", "))
	}
	return nil, said
}
