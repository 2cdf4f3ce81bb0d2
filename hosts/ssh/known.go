package ssh

import (
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/skeema/knownhosts"
)

// Known is known_hosts files that are read once for many hosts: each names all of
// them, so that reading it anew for each takes a thousand times a thousand lines. A
// file that was changed is read again at the next connection.
type Known struct {
	files []string

	mu   sync.Mutex
	db   *knownhosts.HostKeyDB
	seen []stamp
}

// stamp tells a file from what it becomes when somebody writes it.
type stamp struct {
	modified time.Time
	size     int64
}

// NewKnown makes a Known of files; nothing is read yet.
func NewKnown(files ...string) *Known { return &Known{files: files} }

// read gives the files' content.
func (k *Known) read() (*knownhosts.HostKeyDB, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	// Looked at before they are read: a change in between is then seen the next time.
	var now []stamp
	for _, f := range k.files {
		info, err := os.Stat(f)
		if err != nil {
			return nil, fmt.Errorf("cannot read known_hosts: %w", err)
		}
		now = append(now, stamp{info.ModTime(), info.Size()})
	}
	if k.db != nil && slices.Equal(now, k.seen) {
		return k.db, nil
	}
	db, err := knownhosts.NewDB(k.files...)
	if err != nil {
		return nil, fmt.Errorf("cannot read known_hosts: %w", err)
	}
	k.db, k.seen = db, now
	return db, nil
}
