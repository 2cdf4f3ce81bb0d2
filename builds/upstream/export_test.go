package upstream

import (
	"context"

	"vmst.io/refit/hosts/git"
)

// counted counts how often a repository is asked for a tag.
type counted struct {
	repository
	times *int
}

func (c counted) Tag(ctx context.Context, name string) (git.Tag, error) {
	*c.times++
	return c.repository.Tag(ctx, name)
}

// Counted makes the source count how often it asks its repository for a tag.
func (s *Source) Counted() *int {
	c := counted{s.repository, new(int)}
	s.repository = c
	return c.times
}
