package upstream

import (
	"context"

	"vmst.io/refit/hosts/git"
)

// counted counts how often a repository is asked for a tag, and for a file.
type counted struct {
	repository
	tags, files *int
}

func (c counted) Tag(ctx context.Context, name string) (git.Tag, error) {
	*c.tags++
	return c.repository.Tag(ctx, name)
}

func (c counted) Read(t git.Tag, path string) ([]byte, error) {
	*c.files++
	return c.repository.Read(t, path)
}

// Counted makes the source count how often it asks its repository for a tag and for a file.
func (s *Source) Counted() (tags, files *int) {
	c := counted{s.repository, new(int), new(int)}
	s.repository = c
	return c.tags, c.files
}
