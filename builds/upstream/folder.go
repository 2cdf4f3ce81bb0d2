package upstream

import (
	"context"
	"fmt"
	"path"

	"vmst.io/refit/builds"
)

// Folder reads the files of a release that lie right in a folder, such as "dist", by path.
// Links are left out.
func (s *Source) Folder(ctx context.Context, v builds.Version, folder string) (map[string][]byte, error) {
	tag, err := s.resolve(ctx, v)
	if err != nil {
		return nil, err
	}
	files, err := s.repository.Files(tag)
	if err != nil {
		return nil, err
	}
	out := map[string][]byte{}
	for _, f := range files {
		if path.Dir(f.Path) != folder || f.Mode == "120000" {
			continue
		}
		if out[f.Path], err = s.repository.Read(tag, f.Path); err != nil {
			return nil, fmt.Errorf("cannot read %s of %s: %w", f.Path, v, err)
		}
	}
	return out, nil
}
