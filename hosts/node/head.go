package node

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// readHead reads what the manifest of the release in root says besides its files,
// and its digest. Of 40,000 files none is looked at: the digest is that of the bytes
// as Write wrote them, so a manifest that is damaged or was written by another hand
// has a digest that nothing else has.
func readHead(root string) (Manifest, string, error) {
	file := filepath.Join(root, manifestFile)
	b, err := os.ReadFile(file)
	if err != nil {
		return Manifest{}, "", err
	}
	// Files is the last field. Inside a string its quotes would be escaped.
	head, _, ok := bytes.Cut(b, []byte(`,"files":`))
	if !ok {
		return Manifest{}, "", fmt.Errorf("cannot read %s: it lists no files", file)
	}
	var m Manifest
	if err := json.Unmarshal(append(bytes.Clone(head), '}'), &m); err != nil {
		return Manifest{}, "", fmt.Errorf("cannot read %s: %w", file, err)
	}
	return m, digestOf(b), nil
}
